"""Sealing: the same bytes each time, and nothing of its maker's machine."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from pellucid import recipe
from pellucid.errors import FolderTaken, NotTrained, SiteTaken
from pellucid.fork import fork
from pellucid.journal import Journal, _public
from pellucid.release.publish import publish, without_paths
from pellucid.release.verify import verify
from pellucid.store import files, layout
from pellucid.store.ledger import LedgerFile
from tests.conftest import finish, make_run, pellucid

SOURCES = """version = 4  # Kept.
name = "x"
[[data.sources]]
name = "{name}"
path = '{path}'  # Mine.
format = "{format}"
[data.root_is_not_here]
"""


def text(path: str, kind: str = "text") -> bytes:
    return (
        SOURCES.format(name="a.b", path=path, format=kind)
        .replace("[data.root_is_not_here]\n", "")
        .encode()
    )


@pytest.mark.parametrize(
    "path",
    [
        "/home/alice/x",
        "../alice/x",
        "~/x",
        "~alice/x",
        "C:\\Users\\alice",
        "./x",
        "x//y",
        "/",
        "a/../../alice",
    ],
)
def test_a_path_that_leads_out_of_the_folder_is_not_sealed(path: str) -> None:
    content, taken = without_paths(text(path), "recipe.toml")
    assert taken == {"data.sources.a.b.path": path}
    assert b"alice" not in content and b"# Kept." in content
    before, after = (recipe.parse(one, "recipe.toml") for one in (text(path), content))
    assert after.data.sources[0].path == "" and before.digest() == after.digest()
    assert without_paths(content, "recipe.toml") == (content, {})


@pytest.mark.parametrize(
    ("path", "kind"), [("texts/a", "text"), ("", "jsonl"), ("package:numpy==2.0", "package")]
)
def test_a_path_within_the_folder_and_a_package_stay(path: str, kind: str) -> None:
    assert without_paths(text(path, kind), "recipe.toml") == (text(path, kind), {})


def test_a_tokenizers_path_is_taken_out_too() -> None:
    content = text("texts") + b'[tokenizer]\nkind = "file"\npath = "/home/alice/tokenizer.json"\n'
    content, taken = without_paths(content, "recipe.toml")
    assert list(taken) == ["tokenizer.path"] and b"alice" not in content


def test_no_file_of_a_release_names_a_folder_of_its_maker(finished: Path, corpus: Path) -> None:
    """The corpus and the run lie in folders of this process; texts aside, nothing
    in a release may name them."""
    for path in files.walk(finished):
        content = (finished / path).read_bytes()
        assert (
            str(finished.parent).encode() not in content
            and str(corpus.parent).encode() not in content
        ), path


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("Source a: /home/alice/corpus does not exist.", "Source a: .../corpus does not exist."),
        ("Continue with: pellucid run /home/alice/x", "Continue with: pellucid run .../x"),
        (f"{Path.home()}/a b/c.txt", "a b/c.txt"),
        ("https://example.org/a/b and/or record/code.tar at 5/3", None),
    ],
)
def test_the_journal_names_no_folder(said: str, kept: str | None) -> None:
    public = _public({"one": said})["one"]
    assert public == said if kept is None else public.endswith(kept) and "alice" not in public
    assert str(Path.home()) not in public


def test_a_stop_is_noted_without_the_folders(release: Path) -> None:
    with Journal(release) as journal:
        journal.note("stop", error="Stopped", detail=f"Continue with: pellucid run {release}")
    line = (release / layout.JOURNAL).read_text().splitlines()[-1]
    assert str(release.parent) not in line and re.search(r"run \.\.\./release", line)


def test_a_release_is_forked_trained_and_sealed_without_the_paths(
    release: Path, tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    from pellucid.inputs import Inputs

    assert recipe.load(release).data.sources[0].path == ""
    opened = Inputs.load(release, recipe.load(release))
    fork(opened, 10, tmp_path / "fork", ["train.lr=0.001"], [], lambda done, total: None)
    data = tmp_path / "fork/data"
    before = {path: (data / path).read_bytes() for path in files.walk(data)}
    finish(tmp_path / "fork")
    assert LedgerFile(tmp_path / "fork").ended
    assert before == {path: (data / path).read_bytes() for path in files.walk(data)}
    publish(tmp_path / "fork")
    assert verify(tmp_path / "fork", lambda what: None).ok


def test_publish_says_what_it_took_out(release: Path, corpus: Path, tmp_path: Path) -> None:
    texts = shutil.copytree(corpus, tmp_path / "alice")
    name = recipe.load(release).data.sources[0].name
    (release / layout.MANIFEST).unlink()
    pellucid("run", release, "--set", f"data.sources.{name}.path={texts}")
    told = pellucid("publish", release, "--to", tmp_path / "copy").stdout
    assert f"data.sources.{name}.path = {texts}" in told
    for folder in (release, tmp_path / "copy"):
        assert (
            b"alice" not in (folder / "recipe.toml").read_bytes()
            and verify(folder, lambda what: None).ok
        )


def test_sealing_twice_gives_the_same_bytes_and_copies_are_linked(
    release: Path, tmp_path: Path
) -> None:
    before = {path: (release / path).read_bytes() for path in files.walk(release)}
    publish(release, tmp_path / "copy")
    assert {path: (release / path).read_bytes() for path in files.walk(release)} == before
    assert {
        path: (tmp_path / "copy" / path).read_bytes() for path in files.walk(tmp_path / "copy")
    } == before
    assert (tmp_path / "copy/model.safetensors").samefile(release / "model.safetensors")
    assert verify(tmp_path / "copy", lambda what: None).ok


def test_an_unfinished_run_is_not_sealed(corpus: Path, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", corpus)
    with pytest.raises(NotTrained):
        publish(folder)
    with pytest.raises(FolderTaken):
        publish(folder, folder)


def test_no_file_of_the_user_is_lost_with_the_site(release: Path) -> None:
    """The site is replaced as a folder, also by none at all."""
    (release / "LICENSE").unlink()
    for name in ("notes.txt", "mine/draft.txt", "data/steps/own.js", "data/empty/"):
        path = release / "site" / name
        path.parent.mkdir(exist_ok=True)
        path.mkdir() if name.endswith("/") else path.write_text("keep")
        for site in (True, False):
            with pytest.raises(SiteTaken, match=re.escape(name)):
                publish(release, site=site)
        assert path.exists()
        path.rmdir() if path.is_dir() else path.unlink()
    (release / "site" / "mine").rmdir()
    assert not (release / "LICENSE").exists()  # Nothing was written.
    publish(release)


def test_a_file_that_is_named_like_the_site_is_kept(release: Path) -> None:
    shutil.rmtree(release / "site")
    (release / "site").write_text("keep")
    seal = (release / "manifest.jsonl").read_bytes()
    for site in (True, False):
        with pytest.raises(SiteTaken, match="is not a folder"):
            publish(release, site=site)
    assert (release / "site").read_text() == "keep"
    assert (release / "manifest.jsonl").read_bytes() == seal
