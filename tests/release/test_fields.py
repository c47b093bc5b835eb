"""Every field of a release is bound by something, or is said to be a measurement;
whatever else fits is fitted."""

from __future__ import annotations

import hashlib
import io
import json
import math
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pellucid.errors import FormatInvalid
from pellucid.recipe import load
from pellucid.record import chain
from pellucid.release import manifest, readme
from pellucid.release.publish import publish
from pellucid.release.verify import verify
from pellucid.store import files, layout, tensors
from tests.forgery.forge import edit_ledger, edit_table

Change = Callable[[Path], object]


def found(folder: Path) -> list[str]:
    """Sealed again as a forger would, and checked."""
    head = chain.digest_of((folder / layout.LEDGER).read_bytes().splitlines()[-1])
    manifest.write(folder, load(folder).name, head)
    return [
        f"{one.error} {one.where}: {one.detail}"
        for one in verify(folder, lambda what: None).problems
    ]


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    value = json.loads(path.read_bytes())
    change(value)
    path.unlink()
    files.write_json(path, value)


def spelled(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


def in_documents(column: str, change: Callable[[dict[str, Any]], Any]) -> Change:
    return lambda folder: edit_table(folder / "data/documents/00000.parquet", column, change)


def at(index: int, column: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda row: value if row["index"] == index else row[column]


def in_recipe(before: str, after: str) -> Change:
    def change(folder: Path) -> None:
        text = (folder / "recipe.toml").read_text()
        assert text.count(before) == 1
        (folder / "recipe.toml").write_text(text.replace(before, after))

    return change


def beyond(folder: Path) -> None:
    path = folder / "data/shards/00000.train.bin"
    ids = np.fromfile(path, "<u2")
    ids[77] = 60_000
    spelled(path, ids.tobytes())


def chosen_text(folder: Path) -> None:
    path = folder / "data/shards/00000.validation.documents.bin"
    table = np.fromfile(path, "<u8").reshape(-1, 4)
    table[-1, 3] = 0
    spelled(path, table.tobytes())


def in_entries(kind: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Change:
    return lambda folder: edit_ledger(
        folder, lambda body: change(body) if body["kind"] == kind else body
    )


def in_journal(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Change:
    """Every entry of the journal changed, its chain whole."""

    def done(folder: Path) -> None:
        lines = map(json.loads, (folder / layout.JOURNAL).read_bytes().splitlines())
        bodies = [
            change({key: value for key, value in line.items() if key not in chain.PLACE})
            for line in lines
        ]
        spelled(folder / layout.JOURNAL, b"".join(chain.lines_of(bodies, chain.Tip())))

    return done


def of_start(**changed: Any) -> Change:
    return in_journal(lambda body: body | changed if body["kind"] == "start" else body)


def with_tensor(name: str) -> Change:
    """A checkpoint of a tied model with a tensor more, which whoever loads it may take."""

    def change(folder: Path) -> None:
        path = folder / name
        read = tensors.Tensors(path)
        arrays = {one: array.copy() for one, array in read.arrays().items()}
        arrays["lm_head.weight"] = arrays["model.embed_tokens.weight"] + 1
        path.unlink()
        tensors.write(path, arrays, read.metadata)

    return change


def with_header(change: Callable[[bytes], bytes]) -> Change:
    def done(folder: Path) -> None:
        path = folder / "checkpoints/step6/model.safetensors"
        content = path.read_bytes()
        end = 8 + int.from_bytes(content[:8], "little")
        header = change(content[8:end])
        spelled(path, len(header).to_bytes(8, "little") + header + content[end:])

    return done


def page(change: Callable[[str], str]) -> Change:
    return lambda folder: files.write_text(
        folder / "README.md", change((folder / "README.md").read_text())
    )


def in_readme(before: str, after: str) -> Change:
    def change(folder: Path) -> None:
        content = (folder / "README.md").read_bytes()
        assert content.count(before.encode()) == 1
        spelled(folder / "README.md", content.replace(before.encode(), after.encode()))

    return change


def archive(content: bytes) -> Change:
    """Another archive of code, which the journal names."""

    def change(folder: Path) -> None:
        spelled(folder / layout.CODE, content)
        of_start(code={"file": layout.CODE, "sha256": hashlib.sha256(content).hexdigest()})(folder)

    return change


def tar(kind: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=kind) as made:
        about = tarfile.TarInfo("x")
        about.pax_headers = {"GNU.sparse.map": "x,y"}
        made.addfile(about)
    return buffer.getvalue()


def code(folder: Path) -> None:
    spelled(folder / "record/code.tar", (folder / "record/code.tar").read_bytes() + bytes(512))


MARK = "<!-- pellucid: end of the record -->"
FORGED: dict[str, tuple[Change, str]] = {
    "an id twice": (
        in_documents("id", at(3, "id", "stones/004.txt")),
        "document 3: its id is that of another",
    ),
    "an empty id": (in_documents("id", at(3, "id", "")), "document 3: its id is ''"),
    "an id that is the source": (
        in_documents("id", at(3, "id", "stones/")),
        "document 3: its id is 'stones/'",
    ),
    "an id of another source": (
        in_documents("id", at(3, "id", "rivers/3")),
        "none of the source stones",
    ),
    "another source": (
        in_documents("source", at(3, "source", "rivers")),
        "document 3: its text gives another source",
    ),
    "a text twice": (
        in_documents("text", lambda row: row["text"] if row["index"] else "x"),
        "document 0: its text gives another",
    ),
    "no text": (in_documents("text", at(3, "text", "")), "document 3: has no text"),
    "another licence": (
        in_documents("licence", at(3, "licence", "CC0-1.0")),
        "gives another licence",
    ),
    "longer than the recipe's longest": (
        in_recipe("max_document_characters = 1000000", "max_document_characters = 300"),
        "is longer than max_document_characters",
    ),
    "a text that validation covers by choice": (
        chosen_text,
        "data/shards/00000.validation.documents.bin: its rows are not those of the documents",
    ),
    "a date": (in_documents("date", at(3, "date", "2024")), "its text gives another date"),
    "a token beyond the vocabulary": (beyond, "data/shards/00000.train.bin: has the token 60000"),
    "another origin": (
        in_documents("origin", at(3, "origin", "x.txt")),
        "document 3: its origin is 'x.txt'",
    ),
    "another format": (
        in_recipe('format = "text" ', 'format = "lines"'),
        "is no name that the format lines gives",
    ),
    "another pinned root": (
        in_recipe("[data]\n", f'[data]\nroot = "{"0" * 64}"\n'),
        "DataDiffers recipe.toml: data.root pins 0000",
    ),
    "another name of the run": (
        lambda folder: in_recipe('name = "small"', 'name = "large"')(folder),
        "FileDiffers README.md",
    ),
    "a field more in a step": (
        in_entries("step", lambda body: body | {"speed": "1"}),
        "has the field 'speed'",
    ),
    "a field more in the genesis": (
        in_entries("genesis", lambda body: body | {"by": "me"}),
        "has the field 'by'",
    ),
    "tokens in the genesis of no fork": (
        in_entries("genesis", lambda body: body | {"step": 0, "tokens": "7"}),
        "tokens is '7', not None",
    ),
    "a field less in a validation": (
        in_entries("validation", lambda body: {key: body[key] for key in ("kind", "step")}),
        "sources is not there",
    ),
    "a field more in a validation's source": (
        in_entries(
            "validation",
            lambda body: body | {"sources": [{**one, "x": "1"} for one in body["sources"]]},
        ),
        "has other fields than source",
    ),
    "fields in another order": (
        in_entries("end", lambda body: dict(reversed(body.items()))),
        "has its fields in another order",
    ),
    "a note of a kind that no journal has": (
        in_journal(lambda body: body | ({"kind": "signed"} if body["kind"] == "finish" else {})),
        "JournalBroken record/journal.jsonl: entry 5: is of the kind 'signed'",
    ),
    "a field more in the journal": (of_start(by="me"), "does not have the fields of a start"),
    "a time that is none": (of_start(time="yesterday"), "has a time"),
    **{
        f"the time {time}": (of_start(time=time), "has a time")
        for time in (
            "9999-99-99T99:99:99Z",
            "2026-02-29T00:00:00Z",
            "0000-01-01T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T23:59:60Z",
        )
    },
    **{
        f"{value} for {column}": (
            lambda folder, c=column, v=value: edit_table(
                folder / "metrics/steps.parquet", c, lambda row: v if row["step"] == 3 else row[c]
            ),
            f"NumbersDiffer metrics/steps.parquet: step 3: {column} is {value}, which cannot",
        )
        for column, values in (
            ("seconds", (math.nan, math.inf, -0.5)),
            ("tokens_per_second", (math.nan, math.inf, -1.0)),
            ("memory_bytes", (-1,)),
        )
        for value in values
    },
    "a number in the journal": (of_start(cores=2), "is not written as a journal's"),
    "an object for a time in the journal": (
        of_start(time={"at": "noon"}),
        "is not written as a journal's",
    ),
    "an object for a text in the journal": (
        of_start(cores={"all": "2"}),
        "is not written as a journal's",
    ),
    "more of a kept file in the journal": (
        of_start(code={"file": "x"}),
        "is not written as a journal's",
    ),
    "other code": (code, "JournalBroken record/code.tar: does not have the SHA-256"),
    "code that is no archive of ours": (
        archive(b"garbage"),
        "JournalBroken record/code.tar: is not an archive that pellucid writes: the header at "
        "byte 0",
    ),
    "code in an archive that another program made": (
        archive(tar(tarfile.PAX_FORMAT)),
        "JournalBroken record/code.tar: is not an archive that pellucid writes",
    ),
    "code that no start names": (
        lambda folder: (folder / "record/code-2.tar").write_bytes(b"x"),
        "JournalBroken record/code-2.tar: is not named by a start",
    ),
    "code from elsewhere": (
        of_start(code={"file": "README.md", "sha256": "0" * 64}),
        "JournalBroken README.md: does not have the SHA-256",
    ),
    "code outside": (
        of_start(code={"file": "../x", "sha256": "0" * 64}),
        "names '../x', which a release cannot hold",
    ),
    "a head beside a tied one": (
        with_tensor("model.safetensors"),
        "StateDiffers model.safetensors: its tensor 'lm_head.weight' is not one of",
    ),
    "a head in an anchor": (
        with_tensor("anchors/step5/model.safetensors"),
        "anchors/step5: ",
    ),
    "a header with spaces": (
        with_header(lambda header: b" " + header + bytes([32] * 7)),
        "its header has another spelling",
    ),
    "a header with a key twice": (
        with_header(
            lambda header: header.rstrip().replace(b"{", b'{"__metadata__":{"format":"pt"},', 1)
        ),
        "FormatInvalid checkpoints/step6",
    ),
    "another number in the README": (
        page(lambda text: text.replace("| steps | 13", "| steps | 14")),
        "README.md: says",
    ),
    **{
        f"a README with {break_!r} for a line break": (
            lambda folder, b=break_: in_readme(
                "| tokens trained on", f"| trained for{b}| tokens trained on"
            )(folder),
            "README.md: says",
        )
        for break_ in ("\u2028", "\u2029", "\x85", "\f", "\v", "\r", "\x1c", "\x1d", "\x1e")
    },
    "a README with \\r\\n": (
        lambda folder: spelled(
            folder / "README.md", (folder / "README.md").read_bytes().replace(b"\n", b"\r\n")
        ),
        "README.md: does not have the two marks",
    ),
    "a README with bytes that are no text": (
        lambda folder: spelled(
            folder / "README.md",
            (folder / "README.md").read_bytes().replace(b"\n| steps", b"\xff\n| steps"),
        ),
        "README.md: says",
    ),
    **{
        f"a README with {after!r} for a mark": (
            in_readme(before, after),
            "README.md: does not have the two marks",
        )
        for before, after in (
            ("<!-- pellucid: what", "x <!-- pellucid: what"),
            ("the record -->\n#", "the record --> more\n#"),
            (MARK, f"> {MARK}"),
            (MARK, f"{MARK} more"),
            (MARK, f"{MARK}\r"),
        )
    },
    "a README without marks": (
        page(lambda text: text.replace(MARK, "")),
        "README.md: does not have the two marks",
    ),
    "a README with two parts": (
        page(lambda text: text + text),
        "README.md: does not have the two marks",
    ),
    "no README": (lambda folder: (folder / "README.md").unlink(), "README.md"),
}


@pytest.mark.parametrize("what", FORGED)
def test_a_claim_that_nothing_bears_out_is_named(what: str, release: Path) -> None:
    change, named = FORGED[what]
    change(release)
    told = found(release)
    assert any(named in one for one in told), told


@pytest.mark.parametrize(
    "said",
    [
        {"personal_data_removed": 1_000_000},
        ["empty"],
        {"empty": "5"},
        {"empty": 0},
        {"empty": True},
        {"": 1},
        5,
    ],
)
def test_what_was_dropped_has_a_known_reason_and_a_count(said: Any, release: Path) -> None:
    """Else any word would stand in the README, as if the record gave it."""
    edit_json(
        release / "data/documents/manifest.json",
        lambda value: value["sources"][0].update(dropped=said),
    )
    named = "FormatInvalid data/documents/manifest.json: "
    assert any(one.startswith(named) and "dropped" in one for one in found(release))
    with pytest.raises(FormatInvalid, match="dropped"):
        publish(release)


@pytest.mark.parametrize(
    ("key", "value"), [("blocks", ["1"]), ("tokens", {}), ("source", 5), ("split", None)]
)
def test_a_stream_of_another_form_is_named_by_what_makes_the_readme(
    key: str, value: Any, release: Path
) -> None:
    edit_json(
        release / "data/manifest.json", lambda manifest: manifest["streams"][0].update({key: value})
    )
    with pytest.raises(FormatInvalid, match=key):
        readme.write(release)
