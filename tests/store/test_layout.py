"""A release is a closed list of names: what is not on it is not sealed, not
copied, and named by verify."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.errors import LinkInside
from pellucid.fork import fork
from pellucid.recipe import load as load_recipe
from pellucid.record import chain
from pellucid.release import manifest, parts
from pellucid.release.publish import publish
from pellucid.release.verify import verify
from pellucid.store import anchors, files, layout, metrics, sealed
from pellucid.store.log import Log
from tests.conftest import pellucid

# What transformers, peft or sentence-transformers would load from a folder, or a person would run.
FOREIGN = [
    "adapter_config.json",
    "adapter_model.safetensors",
    "added_tokens.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_templates/tool.jinja",
    "modeling.py",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "checkpoints/step6/adapter_config.json",
    "checkpoints/step06/config.json",
    "anchors/step5/model.safetensors.old",
    "data/documents/manifest.json.orig",
    "data/documents/1.parquet",
    "record/code-0x.tar",
    "abandoned/branch1/notes.md",
    ".env",
    ".git/config",
    "config.json\n",
]

NAMES = [
    "/".join(filter(None, [room.folder, name])).format(n=7, part="00000", name="about")
    for rooms in layout.ROOMS.values()
    for room in rooms
    for name in room.names
]


def added(folder: Path) -> set[str]:
    return {
        problem.where
        for problem in verify(folder, lambda message: None).problems
        if problem.error == "FileAdded"
    }


def add(folder: Path, *paths: str) -> None:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"{}")


def test_every_file_of_a_release_is_on_the_list(finished: Path) -> None:
    assert [path for path in files.walk(finished) if not layout.room_of(path)] == []


def test_the_list_names_what_the_rooms_write(finished: Path) -> None:
    assert set(layout._TABLES) == set(metrics.TABLES)
    assert set(layout._STATE) == {anchors.WEIGHTS, anchors.OPTIMIZER, anchors.ABOUT}
    assert set(layout._CHECKPOINT) == {
        path.name for path in (finished / "checkpoints/step6").iterdir()
    }
    assert all(
        layout.room_of(path)
        for path in (layout.LEDGER, layout.JOURNAL, layout.CODE, layout.ENVIRONMENT)
    )


@pytest.mark.parametrize("path", FOREIGN)
def test_a_foreign_name_is_on_no_line_of_the_list(path: str) -> None:
    assert layout.room_of(path) is None


def test_what_is_not_on_the_list_is_added_even_if_a_manifest_names_it(release: Path) -> None:
    add(release, *FOREIGN)
    lines = (release / layout.MANIFEST).read_bytes().splitlines(keepends=True)
    named = [json.loads(line) for line in lines[1:-1]]
    named += [
        {"path": path, "size": 2, "sha256": hashlib.sha256(b"{}").hexdigest()} for path in FOREIGN
    ]
    named.sort(key=lambda entry: entry["path"].encode())
    first = json.loads(lines[0]) | {"files": len(named)}
    content = b"".join(sealed.line_of(entry) for entry in [first, *named])
    end = sealed.line_of({"sha256": hashlib.sha256(content).hexdigest()})
    (release / layout.MANIFEST).write_bytes(content + end)
    assert added(release) >= set(FOREIGN)


# Names of the list's form, for which a release has no file: a folder's own
# manifest names the ones there are.
STRAYS = [
    "data/documents/00001.parquet",
    "data/shards/00001.train.bin",
    "data/shards/00001.validation.documents.bin",
    "trace/00000.starts",
    "trace/00005.text",
    "trace/00007.positions",
]


def seal_strays(folder: Path) -> None:
    """As a forger would who names whatever has a name of the list's form."""
    named = sealed.read(folder)
    with mock.patch.object(parts, "strays", return_value=set()):
        manifest.write(folder, named.run, named.head)


def test_a_part_that_no_manifest_names_is_added_and_not_hashed(
    release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(release, *STRAYS)
    seal_strays(release)
    hashed, hash_file = set[str](), files.sha256_file
    monkeypatch.setattr(files, "sha256_file", lambda path: hashed.add(str(path)) or hash_file(path))
    assert added(release) == set(STRAYS)
    assert hashed and not hashed & {str(release / path) for path in STRAYS}


def test_publish_leaves_strays_and_empty_folders_out(release: Path, tmp_path: Path) -> None:
    add(release, *STRAYS)
    (release / "adapter").mkdir()
    (release / "data/more/deep").mkdir(parents=True)
    assert set(publish(release, tmp_path / "copy")["left_out"]) == {
        *STRAYS,
        "adapter/",
        "data/more/",
    }
    assert verify(tmp_path / "copy", lambda message: None).ok


def test_an_index_without_its_manifest_is_no_index(release: Path) -> None:
    (release / "trace/manifest.json").unlink()
    orphans = {f"trace/{path}" for path in files.walk(release / "trace")}
    seal_strays(release)
    problems = verify(release, lambda message: None).problems
    assert {problem.where for problem in problems if problem.error == "FileAdded"} == orphans
    assert [problem.where for problem in problems if problem.error == "FileMissing"] == [
        "trace/manifest.json"
    ]


def test_a_folder_in_which_no_file_lies_is_added(release: Path) -> None:
    empty = ["adapter", "model.safetensors.d", "checkpoints/step6/onnx", "trace/deep"]
    for path in empty:
        (release / path / "er").mkdir(parents=True)
    assert added(release) == set(empty)


def test_publish_leaves_out_what_is_not_on_the_list_and_says_so(
    release: Path, tmp_path: Path
) -> None:
    before = (release / layout.MANIFEST).read_bytes()
    add(release, *FOREIGN)
    left_out = publish(release, tmp_path / "copy")["left_out"]
    expected = {".git/", "chat_templates/", "abandoned/", "checkpoints/step06/"}
    assert (
        set(left_out)
        == {path for path in FOREIGN if not path.startswith(tuple(expected))} | expected
    )
    assert (release / layout.MANIFEST).read_bytes() == before
    assert verify(tmp_path / "copy", lambda message: None).ok
    assert added(release) >= set(FOREIGN)  # They were not touched, and a stranger is told.
    output = pellucid("publish", release, "--to", tmp_path / "again").stdout
    assert ".env" in output and ".git/" in output and "more" in output


def test_a_copy_stays_as_it_is_when_the_run_goes_on(release: Path, tmp_path: Path) -> None:
    publish(release, copy := tmp_path / "copy")
    for changed, untouched in ((release, copy), (copy, release)):
        for path in (layout.JOURNAL, layout.LEDGER):
            tip = chain.LedgerTip() if path == layout.LEDGER else chain.Tip()
            before, log = (changed / path).read_bytes(), Log(changed / path, tip)
            log.append({"kind": "note", "time": "now"})
            log.close()
            assert verify(untouched, lambda message: None).ok
            (changed / path).write_bytes(before)
    linked = {path for path in files.walk(copy) if (copy / path).stat().st_nlink > 1}
    own = {
        path for path in files.walk(copy) if not path.endswith((".safetensors", ".parquet", ".bin"))
    }
    assert "model.safetensors" in linked  # Else it takes the disk twice.
    assert {"recipe.toml", "LICENSE", layout.JOURNAL, layout.LEDGER} <= own - linked


def test_nothing_that_is_written_in_place_is_linked() -> None:
    rooms = [room for rooms in layout.ROOMS.values() for room in rooms if not room.linked]
    names = {f"{room.folder}/{name}".lstrip("/") for room in rooms for name in room.names}
    names = {name for name in names if not name.startswith("pages/")}  # Which people edit.
    # What store/log.py opens to append; the rest is replaced whole.
    logs = {layout.LEDGER, layout.JOURNAL, layout.EVALUATIONS}
    assert names == {
        *logs,
        "recipe.toml",
        "publisher.toml",
        "README.md",
        "LICENSE",
        layout.MANIFEST,
    }  # And what people edit.


@pytest.mark.parametrize(
    "path",
    [
        "data",
        "anchors",
        "record",
        "metrics",
        "checkpoints/step6",
        "LICENSE",
        "data/shards/notes",
        "abandoned",
    ],
)
def test_a_link_in_a_run_is_refused_by_what_writes(
    path: str, release: Path, tmp_path: Path
) -> None:
    if (release / path).exists():
        (release / path).rename(tmp_path / "elsewhere")
    else:
        (tmp_path / "elsewhere").mkdir()
    (release / path).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LinkInside, match="elsewhere"):
        publish(release)


def test_verify_names_a_link_and_reads_nothing_behind_it(release: Path, tmp_path: Path) -> None:
    (release / "data").rename(tmp_path / "data")
    os.mkfifo(tmp_path / "data/pipe")
    (release / "data").symlink_to(tmp_path / "data")
    report = verify(release, lambda message: None)
    assert [(problem.error, problem.where) for problem in report.problems] == [
        ("LinkInside", "data")
    ] and not report.checked


@pytest.mark.parametrize(
    "verb",
    [
        ["run", "--set", "placement.threads=2"],
        ["status"],
        ["run", "--anchors", "every=3"],
        ["audit", "--step", "3"],
    ],
)
def test_no_verb_follows_a_link(verb: list[str], release: Path, tmp_path: Path) -> None:
    (release / layout.MANIFEST).unlink()
    (release / "anchors").rename(tmp_path / "anchors")
    before = files.walk(tmp_path / "anchors")
    (release / "anchors").symlink_to(tmp_path / "anchors")
    result = pellucid(verb[0], release, *verb[1:], check=2)
    assert (
        "mount --bind" in " ".join(result.stderr.split())
        and files.walk(tmp_path / "anchors") == before
    )


def test_unfinished_work_of_others_is_not_removed(release: Path) -> None:
    for folder in (release / "notes", release, release / "data"):
        folder.mkdir(exist_ok=True)
        (folder / ".partial-mine").write_text("")
    publish(release)
    assert [path for path in files.walk(release) if "partial" in path] == ["notes/.partial-mine"]


def test_verify_names_what_is_no_part_of_a_run_that_is_not_sealed(release: Path) -> None:
    (release / layout.MANIFEST).unlink()
    (release / "README.md").unlink()
    add(release, "adapter_config.json", "data/shards/more", "corpus/a.txt")
    (release / "metrics/.partial-x").touch()
    report = verify(release, lambda message: None)
    assert report.ok and report.unlisted == [
        "adapter_config.json",
        "corpus/",
        "data/shards/more",
        "metrics/.partial-x",
    ]
    assert (
        "4 not part of the run and not checked: adapter_config.json, corpus/"
        in pellucid("verify", release).stdout
    )


def test_what_people_load_is_named_before_all_else_that_is_no_part_of_a_run(release: Path) -> None:
    (release / layout.MANIFEST).unlink()
    (release / "README.md").unlink()
    loaded = [
        "additional_chat_templates/a.jinja",
        "checkpoints/step6/adapter_model.safetensors",
        "merges.txt",
        "x.py",
    ]
    add(release, *loaded, *(f".DS_{number}" for number in range(12)), "notes.txt", ".x.json")
    output = pellucid("verify", release).stdout
    assert "18 not part of the run" in output and output.strip().endswith("and 8 more")
    assert (
        "not checked: additional_chat_templates/, checkpoints/step6/adapter_model.safetensors, "
        "merges.txt, x.py, .DS_0" in output
    )


@given(
    st.one_of(
        st.sampled_from(NAMES), st.text("az01./-_{}n\n\u0661", max_size=30), st.text(max_size=8)
    ),
    st.data(),
)
def test_a_name_on_the_list_is_a_plain_one(path: str, data: st.DataObject) -> None:
    if path and data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(path) - 1))
        path = path[:at] + data.draw(st.text("a0/._5 \n\u0661", max_size=3)) + path[at + 1 :]
    if layout.room_of(path):
        assert files.parts_of(path, "")[-1].isascii() and layout.belongs(path)
        assert all(
            part.strip(".") and part.isprintable() and "\n" not in part for part in path.split("/")
        )


def test_a_link_beside_the_run_is_left_out_and_one_to_it_is_followed(
    release: Path, tmp_path: Path
) -> None:
    (release / "notes").symlink_to("LICENSE")
    (tmp_path / "run").symlink_to(release)
    assert publish(tmp_path / "run")["left_out"] == ["notes"]


def test_a_fork_takes_what_the_list_names_and_no_link(release: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from pellucid.inputs import Inputs

    add(release, "data/secret", "data/documents/secret")
    opened = Inputs.load(release, load_recipe(release))
    fork(opened, 5, tmp_path / "fork", [], [], lambda done, total: None)
    assert [path for path in files.walk(tmp_path / "fork") if "secret" in path] == []
    (release / "data/more").symlink_to("/etc")
    with pytest.raises(LinkInside):
        Inputs.load(release, load_recipe(release))


def test_a_format_that_there_never_was_is_no_manifest(release: Path) -> None:
    content = (
        (release / layout.MANIFEST).read_bytes().replace(b'{"pellucid":1,', b'{"pellucid":0,', 1)
    )
    body = content[: content.rstrip(b"\n").rindex(b"\n") + 1]
    (release / layout.MANIFEST).write_bytes(
        body + sealed.line_of({"sha256": hashlib.sha256(body).hexdigest()})
    )
    with pytest.raises(sealed.FormatInvalid, match="format 0"):
        sealed.read(release)
