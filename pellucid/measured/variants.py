"""Which evaluations asked the same, and in words what tells the variants of a task apart: shots, a
limit, the program that made the examples."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pellucid.record.evaluations import OURS, Settings
from pellucid.record.metrics import MEASURED

Entry = Mapping[str, Any]
Asked = tuple[str, str, str]
Question = tuple[str, ...]
_SHOTS, _LIMIT = "num_fewshot", "limit"
_LONGEST = 40  # Characters of a name or setting that is shown.
_DIGITS = 8  # Of a digest.
_HEX = re.compile(r"[0-9a-f]{32,}").fullmatch
_MOST = 3  # Settings that are named besides.


def asked(entry: Entry) -> Asked:
    """The same for entries of the same examples. Numbers that no metric gives again depend on the
    program and its settings too."""
    made = _made(entry["harness"], entry["version"], entry["settings"])
    return entry["task"], entry["task_digest"], made if entry["metric"] == MEASURED else ""


def asked_by(
    task: str, digest: str, harness: tuple[str, str], settings: Settings
) -> tuple[Asked, Asked]:
    """What entries have for `asked` that answer this task: rated by a metric, or measured."""
    return (task, digest, ""), (task, digest, _made(*harness, settings))


def question(entry: Entry) -> Question:
    """The same for entries that asked the same and rated it alike: what a course over steps is of,
    and what two runs are compared by. In the order of the tasks."""
    return (*asked(entry), entry["metric"], *entry["numbers"])


def newest(entries: Iterable[Entry]) -> dict[Question, dict[int, Entry]]:
    """By question and step the last entry; questions in the order of their tasks."""
    found = dict[Question, dict[int, Entry]]()
    for entry in entries:
        found.setdefault(question(entry), {})[entry["step"]] = entry
    return dict(sorted(found.items()))


def words(entry: Entry) -> str:
    """What an entry says of its variant; nothing of a built-in task that was asked whole."""
    shots, limit = (entry["settings"].get(name) for name in (_SHOTS, _LIMIT))
    told = [f"{shots:,} shot{'s' * (shots != 1)}"] if type(shots) is int else []
    told += [f"limit {limit:,}"] if type(limit) is int else []
    if entry["harness"] != OURS:
        told.append(f"{_cut(entry['harness'])} {_cut(entry['version'])}")
    return ", ".join(told)


def named(entries: Iterable[Entry]) -> dict[Question, str]:
    """Of each question what its last entry says. Where that tells two questions of a task not
    apart, other settings follow, and where those do not, the beginning of its digest."""
    last = {question(entry): entry for entry in entries}
    told = {asked: words(entry) for asked, entry in last.items()}
    for more in (_differing, _digest):
        groups = dict[tuple[str, str], list[Question]]()
        for asked, said in told.items():
            groups.setdefault((asked[0], said), []).append(asked)
        for (_, said), alike in groups.items():
            if len(alike) > 1:
                added = more([last[asked] for asked in alike])
                for asked, own in zip(alike, added, strict=True):
                    told[asked] = ", ".join(filter(None, (said, own)))
    return told


def shown(task: str, variant: str) -> str:
    """A task's name with its variant."""
    return f"{task} ({variant})" if variant else task


def _differing(alike: list[Entry]) -> list[str]:
    names = sorted({name for entry in alike for name in entry["settings"]})
    told = [
        name
        for name in names
        if name not in (_SHOTS, _LIMIT)
        and len({repr(entry["settings"].get(name)) for entry in alike}) > 1
    ][:_MOST]
    columns = [_values([str(entry["settings"].get(name)) for entry in alike]) for name in told]
    return [
        ", ".join(f"{name} {value}" for name, value in zip(told, values, strict=True))
        for values in zip(*columns, strict=True)
    ] or [""] * len(alike)


def _values(values: list[str]) -> list[str]:
    """Settings in few characters: of digests eight digits, unless these are equal."""
    short = [value[:_DIGITS] if _HEX(value) else _cut(value) for value in values]
    return short if len({*short}) == len({*values}) else [_cut(value) for value in values]


def _digest(alike: list[Entry]) -> list[str]:
    return [f"{entry['metric']} of {entry['task_digest'][:_DIGITS]}" for entry in alike]


def _made(harness: str, version: str, settings: Settings) -> str:
    return repr((harness, version, sorted(settings.items())))


def _cut(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
