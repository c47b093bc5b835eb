"""A verb that writes a file writes a new one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.conftest import pellucid

_WRITING = {  # Every option that names a file to write, and a question to give it with.
    ("prove", "--output"): ("prove", "RUN", "step", "5", "--output"),
    ("show", "--plot"): ("show", "RUN", "step", "5", "--at", "3", "--plot"),
}


def test_every_option_that_names_a_file_to_write_is_known() -> None:
    """A new one belongs above; its parser is new_file."""
    import typer.main

    from pellucid.cli import app

    found = {
        (name, option.opts[0])
        for name, verb in typer.main.get_command(app).commands.items()  # type: ignore[attr-defined]
        for option in verb.params
        if (getattr(option, "metavar", None) or "").startswith("FILE")
        and option.param_type_name == "option"
    }
    assert found == set(_WRITING)


@pytest.mark.parametrize("option", _WRITING)
@pytest.mark.parametrize(
    "name", ["there.png", "RUN/recipe.toml", "RUN/record/new.png", "RUN/trace"]
)
def test_no_option_writes_over_a_file_or_into_a_run(
    option: tuple[str, str], name: str, finished: Path, tmp_path: Path
) -> None:
    release = Path(shutil.copytree(finished, tmp_path / "release"))
    (tmp_path / "there.png").write_bytes(b"mine")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    target = name.replace("RUN", str(release)) if "RUN" in name else str(tmp_path / name)
    if option == ("show", "--plot") and not target.endswith(".png"):
        return  # Refused for its ending.
    words = [str(release) if word == "RUN" else word for word in _WRITING[option]]
    assert "FileTaken" in pellucid(*words, target, check=2).stderr
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
