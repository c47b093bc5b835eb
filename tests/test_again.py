"""A command that was killed when its work was done can be given again;
another one is still refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pellucid.cli.common import inputs_of
from pellucid.errors import FolderTaken
from pellucid.fork import fork
from pellucid.release.export import export
from pellucid.release.publish import publish
from pellucid.store import files


def quiet(done: int, total: int) -> None:
    pass


COMMANDS: dict[str, tuple[Callable[[Path, Path], None], Callable[[Path, Path], None]]] = {
    "export hf": (
        lambda run, to: export(inputs_of(run), 5, "hf", to, quiet),
        lambda run, to: export(inputs_of(run), 8, "hf", to, quiet),
    ),
    "export state": (
        lambda run, to: export(inputs_of(run), 5, "state", to, quiet),
        lambda run, to: export(inputs_of(run), 5, "hf", to, quiet),
    ),
    "fork": (
        lambda run, to: fork(inputs_of(run), 5, to, ["train.lr=1e-3"], [], quiet),
        lambda run, to: fork(inputs_of(run), 5, to, ["train.lr=2e-3"], [], quiet),
    ),
    "publish": (
        lambda run, to: (publish(run, to), None)[1],
        lambda run, to: export(inputs_of(run), 5, "hf", to, quiet),
    ),
}


def content(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        path: ((folder / path).read_bytes(), (folder / path).stat().st_ino)
        for path in files.walk(folder)
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_the_same_command_again_finds_its_work_done(
    name: str, release: Path, tmp_path: Path
) -> None:
    command, other = COMMANDS[name]
    target = tmp_path / "target"
    command(release, target)
    before = {
        path: ((target / path).read_bytes(), (target / path).stat().st_ino)
        for path in files.walk(target)
    }
    command(release, target)
    assert before == {
        path: ((target / path).read_bytes(), (target / path).stat().st_ino)
        for path in files.walk(target)
    }
    with pytest.raises(FolderTaken):
        other(release, target)
    (target / "more.txt").write_text("mine")
    with pytest.raises(FolderTaken):
        command(release, target)
    assert (target / "more.txt").read_text() == "mine"
    assert not [path for path in files.walk(tmp_path) if files.TEMPORARY in path]
