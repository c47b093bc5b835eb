"""What a task of lm-eval is, in plain values: its configuration, its data, what is right."""

from __future__ import annotations

import functools
import hashlib
import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pellucid.errors import one_line
from pellucid.record import digests
from pellucid.store import files

_PATHS = {"config_source", "data_files", "data_dir", "cache_dir"}  # Where, not what.
_LARGEST = 16 << 20  # Bytes of a file of functions.
_COMMIT = re.compile(r"@([0-9a-f]{40})/").search


def configuration(task: Any) -> bytes:
    """A task's configuration without paths: functions by the content of their files."""
    config = dict(vars(task.config))
    if Path(str(config.get("dataset_path"))).exists():
        config["dataset_path"] = Path(config["dataset_path"]).name
    return plain(_without_paths({key: value for key, value in config.items() if value is not None}))


def data(task: Any) -> dict[str, str | int | bool | None]:
    """Where a task's data comes from, as settings of an evaluation."""
    config = task.config
    path = Path(str(config.dataset_path))
    name = path.name if path.exists() else config.dataset_path
    return {
        "dataset": _word(name),
        "dataset_name": _word(config.dataset_name),
        "revision": _word((config.dataset_kwargs or {}).get("revision") or _commit(task)),
        "task_version": _word(task.VERSION),
    }


def right_choice(task: Any, document: Mapping[str, Any]) -> int | None:
    """The number of the right choice, where a task says one by its number or text."""
    right, choices = task.doc_to_target(document), task.doc_to_choice(document)
    if isinstance(right, str) and right in choices:
        return choices.index(right)
    return right if type(right) is int and 0 <= right < len(choices) else None


def right_text(task: Any, document: Mapping[str, Any]) -> str:
    """The right text; several right texts are their JSON."""
    right = task.doc_to_target(document)
    if type(right) is int and task.config.doc_to_choice is not None:
        right = task.doc_to_choice(document)[right]
    return right if isinstance(right, str) else plain(right).decode("ascii")


def failure(error: Exception) -> str:
    """What lm-eval or a task's own code failed with: often the text alone says nothing."""
    return f"{type(error).__name__}: {one_line(error)}"


def plain(value: object) -> bytes:
    """Canonical JSON of any value: what has no JSON is written as text."""
    return digests.canonical(_plain(value))


def _without_paths(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_paths(inner) for key, inner in value.items() if key not in _PATHS}
    return value


def _plain(value: object) -> Any:
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, functools.partial):
        return [_plain(value.func), _plain(value.args), _plain(value.keywords)]
    if callable(value):
        return _function(value)
    if hasattr(value, "__dict__"):
        return _plain(vars(value))
    return str(value)


def _function(function: Any) -> list[str]:
    """A function by its name and the digest of its file, which holds what it calls beside it."""
    name = getattr(function, "__qualname__", type(function).__qualname__)
    try:
        source = inspect.getsourcefile(inspect.unwrap(function))
    except TypeError:
        source = None
    content = files.read_bytes(Path(source), _LARGEST, follow=True) if source else b""
    return [name, hashlib.sha256(content).hexdigest()]


def _commit(task: Any) -> str | None:
    """The revision that a data set of the Hub was loaded at, from the addresses of its files."""
    for split in getattr(task, "dataset", None) or {}:
        checksums = getattr(task.dataset[split].info, "download_checksums", None) or {}
        for address in checksums:
            if commit := _COMMIT(address):
                return commit[1]
    return None


def _word(value: object) -> str | None:
    return str(value)[:200] if value not in (None, "") else None
