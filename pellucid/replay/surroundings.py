"""What two runs were computed with: the journals' starts, the versions, the code. Nothing binds it but the journal."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pellucid import journal
from pellucid.errors import FormatInvalid
from pellucid.store import files, layout, log

_TOLD = ("pellucid", "python", "platform", "processor", "cores")
_PATHS = {"code": layout.CODE, "environment": layout.ENVIRONMENT}


def of_run(folder: Path) -> dict[str, str]:
    """The surroundings of a run's last start, as flat names and values."""
    last: dict[str, Any] = {}
    if (folder / layout.JOURNAL).is_file():
        for entry in log.read(folder / layout.JOURNAL):
            last = entry.body if entry.body.get("kind") == "start" else last
    told = {name: str(last[name]) for name in _TOLD if name in last}
    environment, code = (_content(folder, last, name) for name in ("environment", "code"))
    return told | _packages(environment) | _code(code, folder / layout.CODE)


def of_here() -> dict[str, str]:
    """The surroundings of this process."""
    from pellucid import __version__

    code = _code(journal.code_archive(), "the code here")
    return {"pellucid": __version__, **journal.machine(), **_packages(journal.environment_lock()), **code}


def differences(a: Mapping[str, str], b: Mapping[str, str]) -> list[dict[str, Any]]:
    """What differs, with both values; None where one side does not tell."""
    return [
        {"what": name, "a": a.get(name), "b": b.get(name)}
        for name in dict.fromkeys([*a, *b])
        if a.get(name) != b.get(name)
    ]


def _content(folder: Path, start: Mapping[str, Any], name: str) -> bytes:
    """The file that a start names, or the first of its kind."""
    told = start.get(name)
    said = told.get("file") if isinstance(told, dict) else None
    path = files.inside(folder, said, str(folder / layout.JOURNAL)) if isinstance(said, str) else folder / _PATHS[name]
    if not path.is_file():
        return b""
    return files.read_bytes(path, journal.MAX_KEPT)


def _packages(lock: bytes) -> dict[str, str]:
    pairs = [line.partition("==") for line in lock.decode("utf-8", "replace").splitlines()]
    return {f"package {name}": version for name, _, version in pairs if version}


def _code(archive: bytes, where: Path | str) -> dict[str, str]:
    """The SHA-256 of every file of a code archive, by its name."""
    if not archive:
        return {}
    found = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:
            for member in tar:
                # A sparse member may claim any size, whatever the archive's own.
                file = tar.extractfile(member) if member.isfile() and member.size <= journal.MAX_KEPT else None
                if file is not None:
                    found[f"code {member.name}"] = hashlib.sha256(file.read()).hexdigest()
    except tarfile.TarError as error:
        raise FormatInvalid(path=where, detail=f"is no tar file ({error})") from error
    return found
