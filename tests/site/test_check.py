"""A site that somebody edited is refused, and by the file that was edited."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from pellucid.cli.check import _fix
from pellucid.release.publish import publish
from pellucid.release.verify import verify
from pellucid.site import curves, data, numbers, shell, texts
from pellucid.site.check import check
from pellucid.site.data import Site
from pellucid.site.overview import SCHEMA
from pellucid.site.pack import canonical, packed, unpacked
from pellucid.store import layout
from pellucid.trace import build
from tests.conftest import pellucid
from tests.release.evaluating import evaluate

# Of the packs of steps and documents in schema 1, as the version that wrote it gave them.
SCHEMA_1 = "f6e3e1671b7df1697d44cb4fb8e03058f9396c25712faf9a6c3fb1584f34f1eb"


def problems(folder: Path) -> set[tuple[str, str]]:
    return {(problem.error, problem.where) for problem in check(folder)}


def edited(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def overview_with(path: Path, **said: object) -> bytes:
    (piece,) = unpacked(path.read_bytes(), "overview", 1 << 20, path)
    return packed("overview", [canonical({**json.loads(piece), **said})])


def test_a_site_is_part_of_a_release_and_sound(finished: Path) -> None:
    assert (finished / "site" / "index.html").is_file()
    assert problems(finished) == set()
    report = verify(finished, lambda name: None)
    assert report.ok and "site" in report.checked


@pytest.mark.parametrize("name", sorted(shell.files()))
def test_an_edited_file_of_the_shell_is_named(release: Path, name: str) -> None:
    edited(release / "site" / name, lambda content: content + b"\n")
    assert problems(release) == {("FileDiffers", f"site/{name}")}


def test_other_data_are_named(release: Path) -> None:
    path = release / "site" / "data" / "overview.js"
    path.write_bytes(overview_with(path, loss=0.001))
    assert problems(release) == {("FileDiffers", "site/data/overview.js")}


def test_a_script_among_the_data_is_named(release: Path) -> None:
    path = release / "site" / "data" / "steps" / "00000.js"
    edited(path, lambda content: content + b"void 0;\n")
    assert problems(release) == {("FileDiffers", "site/data/steps/00000.js")}


def test_added_and_missing_files_are_named(release: Path) -> None:
    site = release / "site"
    (site / "extra.js").write_text("void 0;\n")
    (site / "data" / "steps" / "00007.js").write_bytes(packed("steps/00007", [b"{}"]))
    (site / "data" / "curves" / "level0" / "00000.js").unlink()
    (site / "timeline.js").unlink()
    assert problems(release) == {
        ("FileAdded", "site/extra.js"),
        ("FileAdded", "site/data/steps/00007.js"),
        ("FileMissing", "site/data/curves/level0/00000.js"),
        ("FileMissing", "site/timeline.js"),
    }


def test_texts_of_another_document_are_named(release: Path) -> None:
    path = release / "site" / "data" / "texts" / "00000.js"
    before = Site(release).dictionary("texts/00000")
    pieces = unpacked(path.read_bytes(), "texts/00000", 1 << 20, path, before)
    path.write_bytes(packed("texts/00000", [pieces[1], pieces[0], *pieces[2:]], before))
    assert ("FileDiffers", "site/data/texts/00000.js") in problems(release)


def test_another_dictionary_is_named(release: Path) -> None:
    path = release / "site" / "data" / "dictionary.js"
    (piece,) = unpacked(path.read_bytes(), "dictionary", 1 << 20, path)
    path.write_bytes(packed("dictionary", [piece[1:] + piece[:1]]))
    assert problems(release) == {("FileDiffers", "site/data/dictionary.js")}


def test_verify_names_it_too_when_it_was_sealed(release: Path) -> None:
    """The manifest of a dishonest maker fits the edited page."""
    from pellucid.release import manifest
    from pellucid.store.ledger import LedgerFile

    path = release / "site" / "data" / "overview.js"
    path.write_bytes(overview_with(path, tokens="9999999999"))
    manifest.write(release, "small", LedgerFile(release).head)
    done = pellucid("verify", release, check=5)
    assert "site/data/overview.js" in done.stdout + done.stderr


def test_the_shell_is_the_one_that_its_version_names() -> None:
    """A change of the shell is a new version: python -m tests.site.shells writes its digests."""
    assert shell.known()[shell.VERSION] == shell.Version(SCHEMA, shell.digests())
    assert all(0 < version.schema <= SCHEMA for version in shell.known().values())


def listed(monkeypatch: pytest.MonkeyPatch, *versions: shell.Version) -> None:
    monkeypatch.setattr(shell, "known", lambda: dict(enumerate(versions, 1)))


def test_a_version_that_was_withdrawn_is_named_with_the_reason(
    release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = shell.known()[shell.VERSION]
    later = own._replace(files=own.files | {"style.css": "0" * 64})
    listed(monkeypatch, own._replace(withdrawn="Its curves are upside down."), later)
    report = verify(release, lambda name: None)
    (problem,) = report.problems
    assert problem[:2] == ("ShellWithdrawn", "site")
    assert problem.detail == "is version 1, which was withdrawn: Its curves are upside down."
    assert f"pellucid publish {release}" in _fix(release, report)
    edited(release / "site" / "core.js", lambda content: content + b"\n")
    assert problems(release) == {("ShellWithdrawn", "site"), ("FileDiffers", "site/core.js")}
    listed(monkeypatch, own, later._replace(withdrawn="Its curves are upside down."))
    assert problems(release) == {("FileDiffers", "site/core.js")}


def test_a_site_of_an_earlier_version_verifies(
    release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later version has another shell, and data of another schema."""
    own, overview = shell.known()[shell.VERSION], data.overview

    def overview_of(folder: Path, about: dict[str, Any], schema: int) -> dict[str, Any]:
        return overview(folder, about, schema) | ({"more": 1} if schema > SCHEMA else {})

    monkeypatch.setattr(data, "overview", overview_of)
    later = own._replace(schema=SCHEMA + 1)
    listed(monkeypatch, own, later._replace(files=own.files | {"style.css": "0" * 64}))
    assert verify(release, lambda name: None).ok
    path = release / "site" / "data" / "overview.js"
    path.write_bytes(packed("overview", Site(release, schema=SCHEMA + 1).pieces("overview")))
    assert problems(release) == {("FileDiffers", "site/data/overview.js")}
    listed(monkeypatch, later)
    assert problems(release) == set()


def test_a_site_of_schema_1_verifies(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its packs are those that the first shell was published with."""
    listed(monkeypatch, shell.known()[shell.VERSION]._replace(schema=1))
    site, packs = Site(release, schema=1), hashlib.sha256()
    for name in site.names():
        if name.startswith(("steps/", "documents/")):
            packs.update(b"".join(site.pieces(name)))
    assert packs.hexdigest() == SCHEMA_1
    assert ("FileDiffers", "site/data/overview.js") in problems(release)
    site.read_all()
    for name in site.names():
        content = packed(name, site.pieces(name), site.dictionary(name))
        (release / "site" / "data" / f"{name}.js").write_bytes(content)
        site.placed(name, content)
    assert problems(release) == set()


def test_a_site_of_schema_1_is_refused_if_the_release_has_evaluations(
    release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A maker could choose it, because it counts equal questions as many."""
    listed(monkeypatch, shell.known()[shell.VERSION]._replace(schema=1))
    assert ("ShellWithdrawn", "site") not in problems(release)
    evaluate(release, [6])
    assert ("ShellWithdrawn", "site") in problems(release)


def test_the_scripts_count_as_the_data_are_cut() -> None:
    said = {
        ("packs.js", "PIECE"): texts.PIECE,
        ("packs.js", "LOSS"): numbers.LOSS,
        ("packs.js", "APART"): texts.APART,
        ("curves.js", "BINS"): curves.BINS,
        ("curves.js", "FACTOR"): curves.FACTOR,
        ("pieces.js", "KEY_EVERY"): build.EVERY,
        ("pieces.js", "TOP_EVERY"): build.EVERY,
        ("pieces.js", "KEY"): build.KEY,
    }
    for (script, name), value in said.items():
        text = resources.files("pellucid.site").joinpath("shell", script).read_text("utf-8")
        assert f"const {name} = {value};" in text


def test_the_list_of_a_release_has_the_shell(finished: Path) -> None:
    names = {name for version in shell.known().values() for name in version.files}
    assert all(layout.room_of(f"site/{name}") for name in names)
    rooms = [room for room in layout.ROOMS[layout.VERSION] if room.folder == "site"]
    assert {name for room in rooms for name in room.names} == names
    there = {path.name for path in (finished / "site").iterdir() if path.is_file()}
    assert there == shell.files().keys()


def test_publish_can_leave_it_out_and_bring_it_back(release: Path) -> None:
    (release / layout.MANIFEST).unlink()
    publish(release, site=False)
    assert not (release / "site").exists()
    assert verify(release, lambda name: None).ok
    publish(release)
    assert (release / "site" / "data" / "overview.js").is_file()
    assert verify(release, lambda name: None).ok


def test_the_pages_of_a_run_that_goes_on_are_nobodys_word(release: Path) -> None:
    """Not sealed, a run may have other states than when its pages were made."""
    for name in (layout.MANIFEST, "README.md"):
        (release / name).unlink()
    (release / "site" / "data" / "overview.js").write_text("void 0;\n")
    report = verify(release, lambda name: None)
    assert report.ok and "site" not in report.checked
    publish(release)
    assert verify(release, lambda name: None).ok


def test_the_shell_asks_for_nothing_outside() -> None:
    """No address but that of the package's page, which is a link; no HTML from strings."""
    for name, content in shell.files().items():
        text = content.decode("utf-8")
        addresses = set(re.findall(r"https?://[^\s\"'<>]+", text))
        assert addresses <= {"https://pypi.org/project/pellucid/", "http://www.w3.org/2000/svg"}
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert word not in text, name


def test_many_problems_are_counted(release: Path) -> None:
    for number in range(250):
        (release / "site" / f"{number}.js").write_text("void 0;\n")
    told = list(check(release))
    assert len(told) == 101 and "150 more" in told[-1].detail


def test_data_are_not_made_from_tables_that_are_wrong(release: Path) -> None:
    """A hostile table makes that as long as it likes. The pages are still compared."""
    (release / "metrics" / "sequences.parquet").write_bytes(b"PAR1")
    edited(release / "site" / "index.html", lambda content: content + b"\n")
    report = verify(release, lambda name: None)
    assert "site (without its data)" in report.checked
    assert [problem.where for problem in report.problems if problem.where.startswith("site/")] == [
        *["site/index.html"] * 2  # By the manifest, and by the list of shells.
    ]
