"""What two runs were computed with: the journals' starts, the versions, the code.
Nothing binds it but the journal."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pellucid import journal
from pellucid.store import files, layout, log, ustar

_TOLD = ("pellucid", "python", "platform", "processor", "cores")
_PATHS = {"code": layout.CODE, "environment": layout.ENVIRONMENT}
_MAX_LOCK = 1 << 20  # Bytes of a list of versions that are read: ours have some thousand.


def of_run(folder: Path) -> dict[str, str]:
    """The surroundings of a run's last start, as flat names and values.

    Raises FileMissing, FormatInvalid, PathUnsafe.
    """
    last: dict[str, Any] = {}
    if (folder / layout.JOURNAL).is_file():
        for entry in log.read(folder / layout.JOURNAL):
            last = entry.body if entry.body.get("kind") == "start" else last
    facts = {name: str(last[name]) for name in _TOLD if name in last}
    environment, code = (_file_named(folder, last, name) for name in ("environment", "code"))
    packages = _packages(files.read_bytes(environment, _MAX_LOCK)) if environment.is_file() else {}
    return facts | packages | (_code(journal.code_in(code)) if code.is_file() else {})


def of_here() -> dict[str, str]:
    """The surroundings of this process."""
    from pellucid import __version__

    code = _code(ustar.read(journal.code_archive()))
    return {
        "pellucid": __version__,
        **journal.machine(),
        **_packages(journal.environment_lock()),
        **code,
    }


def differences(a: Mapping[str, str], b: Mapping[str, str]) -> list[dict[str, Any]]:
    """What differs, with both values; None where one side does not tell."""
    return [
        {"what": name, "a": a.get(name), "b": b.get(name)}
        for name in dict.fromkeys([*a, *b])
        if a.get(name) != b.get(name)
    ]


def _file_named(folder: Path, start: Mapping[str, Any], name: str) -> Path:
    """The file that a start names, or the first of its kind."""
    entry = start.get(name)
    path = entry.get("file") if isinstance(entry, dict) else None
    return (
        files.inside(folder, path, str(folder / layout.JOURNAL))
        if isinstance(path, str)
        else folder / _PATHS[name]
    )


def _packages(lock: bytes) -> dict[str, str]:
    pairs = [line.partition("==") for line in lock.decode("utf-8", "replace").splitlines()]
    return {f"package {name}": version for name, _, version in pairs if version}


def _code(contents: Mapping[str, bytes]) -> dict[str, str]:
    """The SHA-256 of every file of a code archive, by its name."""
    return {
        f"code {name}": hashlib.sha256(content).hexdigest() for name, content in contents.items()
    }
