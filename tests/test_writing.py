"""A verb that writes a file writes a new one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import get_type_hints

import pytest
from typer.models import OptionInfo

from pellucid.cli import VERBS
from pellucid.cli.common import name_of, new_file
from tests.conftest import pellucid

# Every option that names a file to write: a question to give it with, and names for the file that
# the option accepts by their form.
_TAKEN = ("there.png", "RUN/recipe.toml", "RUN/record/new.png", "RUN/trace")
_WRITING = {
    ("prove", "--output"): (("prove", "RUN", "step", "5", "--output"), _TAKEN),
    ("show", "--plot"): (
        ("show", "RUN", "step", "5", "--at", "3", "--plot"),
        tuple(name for name in _TAKEN if name.endswith(".png")),
    ),
}


def test_every_option_that_names_a_file_to_write_is_known() -> None:
    """A new one belongs above; its parser is new_file, or its metavar begins with FILE."""
    named = {
        (name_of(verb), f"--{parameter.replace('_', '-')}")
        for verb in VERBS
        for parameter, hint in get_type_hints(verb, include_extras=True).items()
        for mark in getattr(hint, "__metadata__", ())
        if isinstance(mark, OptionInfo)
        and (mark.parser is new_file or (mark.metavar or "").startswith("FILE"))
    }
    assert named == set(_WRITING)


@pytest.mark.parametrize(
    ("question", "name"),
    [(question, name) for question, names in _WRITING.values() for name in names],
)
def test_no_option_writes_over_a_file_or_into_a_run(
    question: tuple[str, ...], name: str, finished: Path, tmp_path: Path
) -> None:
    release = Path(shutil.copytree(finished, tmp_path / "release"))
    (tmp_path / "there.png").write_bytes(b"mine")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    target = name.replace("RUN", str(release)) if "RUN" in name else str(tmp_path / name)
    words = [str(release) if word == "RUN" else word for word in question]
    assert "FileTaken" in pellucid(*words, target, check=2).stderr
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
