"""What lies in a run is opened in one way: no pipe, device, link or sparse giant gets further."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pellucid.data.tokenizer import existing
from pellucid.errors import FileMissing, FormatInvalid, TokenizerInvalid
from pellucid.run import run
from pellucid.store import arrays, files, layout, metrics, parquet
from pellucid.terminal import Terminal
from tests.conftest import lacks
from tests.conftest import pellucid as command


def giant(path: Path, size: int = 1 << 42) -> None:
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        try:
            os.truncate(file.fileno(), size)
        except OSError:
            lacks("no file of this size here")


READERS = [
    files.open_file,
    files.sha256_file,
    files.require_file,
    lambda path: files.read_bytes(path, 9),
    lambda path: arrays.mapped(path, "u1"),
    lambda path: arrays.loaded(path, "u1", 0, 1),
    arrays.content,
    lambda path: parquet.opened(path, metrics.TABLES["steps"]),
]


@pytest.mark.parametrize("reader", READERS)
def test_only_a_plain_file_is_opened(reader, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    giant(tmp_path / "giant")
    for name in ("link", "pipe", "folder", "giant"):
        with pytest.raises(FormatInvalid, match=name) as caught:
            reader(tmp_path / name)
        assert not isinstance(caught.value, FileMissing)
    for name in ("nothing", "file/below"):
        with pytest.raises(FileMissing):
            reader(tmp_path / name)


def test_a_device_is_not_opened() -> None:
    for path in ("/dev/zero", "/dev/tty", "/dev/stdin"):
        with pytest.raises(FormatInvalid):
            files.read_bytes(Path(path), 9)


def test_what_the_user_names_may_be_reached_by_a_link(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("file")
    assert files.read_bytes(tmp_path / "link", 9, follow=True) == b"abc"


def test_zeros_that_a_file_system_packs_are_no_giant(tmp_path: Path) -> None:
    giant(tmp_path / "zeros", 1 << 20)
    assert len(files.read_bytes(tmp_path / "zeros", 1 << 20)) == 1 << 20


VERBS = [  # Those that test_a_pipe_or_a_giant… does not call in one process.
    ["show", "document", "0"],
    ["where", "light"],
    ["sql", "SELECT count(*) FROM steps"],
    ["sample"],
    ["export", "--step", "6", "--to", "/nowhere/DIR"],
    ["audit", "--step", "7"],
    ["run"],
]
_REPLACED = [
    "recipe.toml",
    "record/ledger.jsonl",
    "data/manifest.json",
    "data/documents/00000.parquet",
    "data/tokenizer/tokenizer.json",
    "data/shards/00000.train.bin",
    "metrics/segments.parquet",
    "checkpoints/step6/model.safetensors",
    "anchors/step5/anchor.json",
    "model.safetensors",
]
_IN_ONE = """
import contextlib
import os
import sys
from pathlib import Path
from pellucid.errors import PellucidError
from pellucid.release.publish import publish
from pellucid.release.verify import verify
from pellucid.look.status import status
from pellucid.look.show import Shown
folder = Path(sys.argv[1])
for path in sys.argv[2:]:
    target = folder / path
    content = target.read_bytes()
    for put in (os.mkfifo, lambda p: os.truncate(os.open(p, os.O_CREAT | os.O_WRONLY), 1 << 42)):
        target.unlink()
        put(target)
        report = verify(folder, lambda message: None)
        assert any(path in problem.where for problem in report.problems), (path, report.problems)
        for verb in (publish, status, lambda folder: Shown(folder).step(7)):
            with contextlib.suppress(PellucidError):
                verb(folder)
    target.unlink()
    target.write_bytes(content)
"""


def test_a_pipe_or_a_giant_in_the_place_of_any_file_keeps_nobody_waiting(release: Path) -> None:
    arguments = [sys.executable, "-c", _IN_ONE, str(release), *_REPLACED[::2]]
    subprocess.run(arguments, check=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"})


@pytest.mark.slow
@pytest.mark.parametrize("arguments", VERBS)
def test_no_verb_waits_for_a_pipe(arguments: list[str], release: Path, tmp_path: Path) -> None:
    journal = (release / layout.JOURNAL).read_bytes()
    for path in _REPLACED:
        (release / path).rename(tmp_path / "kept")
        os.mkfifo(release / path)
        result = subprocess.run(
            [sys.executable, "-m", "pellucid", arguments[0], str(release), *arguments[1:]],
            capture_output=True,
            timeout=120,
            check=False,
        )
        assert b"Traceback" not in result.stderr
        (release / path).unlink()
        (tmp_path / "kept").rename(release / path)
    (release / layout.JOURNAL).write_bytes(journal)  # `run` notes that it stopped.
    assert command("verify", release).returncode == 0


@pytest.mark.parametrize("path", [layout.LEDGER, layout.JOURNAL])
def test_a_pipe_in_the_place_of_a_log_costs_no_data(path: str, release: Path) -> None:
    (release / path).unlink()
    for name in (
        "model.safetensors",
        layout.MANIFEST,
    ):  # Else there is nothing to do, or it is sealed.
        (release / name).unlink()
    os.mkfifo(release / path)
    before = files.walk(release / "data")
    with pytest.raises(FormatInvalid, match="is not a file"):
        run(release, Terminal(quiet=True))
    assert files.walk(release / "data") == before != []


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda path: os.mkfifo(path), "a pipe"),
        (lambda path: path.mkdir(), "a folder"),
        (lambda path: path.symlink_to("/dev/null"), "a symbolic link"),
    ],
)
def test_what_is_no_file_is_called_what_it_is(
    make: Callable[[Path], None], kind: str, tmp_path: Path
) -> None:
    make(tmp_path / "x")
    for opening in (files.open_file, files.require_file):
        with pytest.raises(FormatInvalid, match=f"is not a file but {kind}"):
            opening(tmp_path / "x")
    with pytest.raises(FormatInvalid, match="is not a file but a device"):
        files.open_file(Path(os.devnull), follow=True)
    with pytest.raises(TokenizerInvalid, match="is not a file but a device"):
        existing(Path(os.devnull), follow=True)


@pytest.mark.parametrize(
    "words",
    [
        ("check-proof", os.devnull, "--head", "0" * 64),
        ("where", "RUN", "--file", os.devnull),
        ("new", "RUN/../new", "--data", os.devnull),
    ],
)
def test_a_device_is_called_one_on_the_command_line(words: tuple[str, ...], finished: Path) -> None:
    done = command(*(word.replace("RUN", str(finished)) for word in words), check=None)
    assert done.returncode in (2, 4) and "is not a file but a device" in done.stderr
