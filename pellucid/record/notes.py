"""What the entries of a journal may say. Only its chain binds it; its fields are a closed list."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Iterator
from typing import Any

from pellucid.record.chain import Entry
from pellucid.record.verdict import Problem, said

_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z").fullmatch
FIELDS = {
    "start": "pellucid code environment python platform processor cores processes",
    "repair": "removed",
    "stage": "stage seconds",
    "resume": "step",
    "stop": "error detail",
    "rollback": "step to rule",
    "finish": "step",
    "anchors": "placement made removed",
    "evaluate": "tasks steps",
    "measure": "steps data",  # And an object for each way of running.
}
_TEXTS = frozenset(" ".join(FIELDS.values()).split()) - {"code", "environment"}


def problems(path: str, entries: Iterable[Entry]) -> Iterator[Problem]:
    """Every problem of a journal: only its chain binds it, and what
    its entries may say is listed."""
    for entry in entries:
        if detail := entry.problem or _wrong_note(entry.body):
            yield Problem("JournalBroken", f"{path}: entry {entry.n}", detail)


def _wrong_note(body: dict[str, Any]) -> str:
    kind = body.get("kind")
    listed = FIELDS.get(kind) if isinstance(kind, str) else None
    if listed is None:
        return f"is of the kind {said(kind)}, which no journal has"
    expected = ["prev", "n", "kind", "time", *listed.split()]
    if list(body)[: len(expected)] != expected or (kind != "measure" and len(body) > len(expected)):
        return f"does not have the fields of a {kind}: {listed}"
    if not all(_is_sound(name, body[name]) for name in body if name not in ("prev", "n")):
        return "has a time or another value that is not written as a journal's"
    return ""


def _is_sound(name: str, value: object) -> bool:
    """Whether a journal writes the value of a field so: a text, a time, a kept file,
    a way of running's figures."""
    if name == "time":
        return isinstance(value, str) and _is_time(value)
    if name in ("code", "environment"):
        return (
            isinstance(value, dict)
            and list(value) == ["file", "sha256"]
            and _all_texts(value.values())
        )
    return isinstance(value, str) or (
        isinstance(value, dict) and name not in _TEXTS and _all_texts(value.values())
    )


def _is_time(text: str) -> bool:
    """Whether a text is a second that there was or will be, as a journal spells it."""
    try:
        return _TIME(text) is not None and bool(
            datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ")
        )
    except ValueError:
        return False


def _all_texts(values: Iterable[object]) -> bool:
    return all(isinstance(value, str) for value in values)
