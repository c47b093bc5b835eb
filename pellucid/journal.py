"""The journal: what happened to a run. Times, machines and versions; it may differ between two runs
that are the same in every bit."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import os
import platform
import re
from pathlib import Path
from typing import Any

from pellucid import __version__
from pellucid.errors import FormatInvalid
from pellucid.record import chain
from pellucid.store import files, layout, repair, ustar
from pellucid.store.log import Log

_SOURCES = (".py", ".c", ".h", "LICENSE")
MAX_KEPT = 64 << 20  # Bytes of a code archive or a lock file that are read.


# The folders of an absolute path, up to its last name; not those of an address.
_FOLDERS = re.compile(r"(?<![\w.:/~-])~?/(?:[^\s/'\"]+/)*")


class Journal:
    """The journal of a run folder, open for writing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        cut = repair.journal(folder)
        self._log = Log(folder / layout.JOURNAL, chain.Tip())
        if cut:
            self.note("repair", removed=cut)
        if self._log.torn:
            self.note("repair", removed=f"{self._log.torn} bytes of an unfinished journal entry")

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._log.close()

    def note(self, kind: str, **fields: object) -> None:
        """Add an entry; every value becomes a string, and every path its last
        name: a journal is published."""
        time = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        texts = {key: _public(value) for key, value in fields.items()}
        self._log.append({"kind": kind, "time": time, **texts})

    def start(self, processes: int) -> None:
        """Who begins to work on this run, with what: the code and the versions go into record/."""
        self.note(
            "start",
            pellucid=__version__,
            code=_copied(self._folder / layout.CODE, code_archive()),
            environment=_copied(self._folder / layout.ENVIRONMENT, environment_lock()),
            **machine(),
            processes=processes,
        )


def _public(value: object) -> Any:
    """A value as text without the folders of this machine, whose names tell who works on it."""
    if isinstance(value, dict):
        return {key: _public(inner) for key, inner in value.items()}
    return _FOLDERS.sub(".../", str(value).replace(str(Path.home()), "~"))


def machine() -> dict[str, str]:
    """What computes here."""
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "cores": str(os.cpu_count()),
    }


def _copied(path: Path, content: bytes) -> dict[str, str]:
    """Keep content as path, or as path-2, path-3 … where earlier starts left another content."""
    number, target = 1, path
    while target.exists() and files.read_bytes(target, MAX_KEPT) != content:
        number += 1
        target = path.with_name(f"{path.stem}-{number}{path.suffix}")
    if not target.exists():
        files.write_bytes(target, content)
    return {
        "file": f"{path.parent.name}/{target.name}",
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def code_archive() -> bytes:
    """This package's own source, C and Python, as a tar file: sorted,
    and without times or owners."""
    package = Path(__file__).parent
    # Not the kernels as built, nor what an editor left there.
    own = [name for name in files.walk(package) if name.endswith(_SOURCES)]
    return ustar.write({f"pellucid/{name}": (package / name).read_bytes() for name in own})


def code_in(path: Path) -> dict[str, bytes]:
    """The files of a code archive that a release holds, by their names. Raises
    FileMissing, FormatInvalid."""
    try:
        return ustar.read(files.read_bytes(path, MAX_KEPT))
    except ValueError as error:
        raise FormatInvalid(
            path=path, detail=f"is not an archive that pellucid writes: {error}"
        ) from error


def environment_lock() -> bytes:
    """name==version of every distribution pellucid stands on, as a requirements file."""
    versions: dict[str, str] = {}
    waiting = ["pellucid"]
    while waiting:
        name = waiting.pop()
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # A dependency of another platform, or of an extra that is not installed.
        key = re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower()
        if key not in versions:
            versions[key] = distribution.version
            required = [
                requirement
                for requirement in distribution.requires or []
                if "extra ==" not in requirement
            ]
            waiting += [
                match.group() for text in required if (match := re.match(r"[A-Za-z0-9._-]+", text))
            ]
    return "".join(f"{name}=={versions[name]}\n" for name in sorted(versions)).encode()


def processor() -> str:
    """The processor's own name, where the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            lines = [line for line in file if line.startswith("model name")]
    except FileNotFoundError:
        lines = []
    return lines[0].partition(":")[2].strip() if lines else platform.processor() or "unknown"
