"""Incidents that the ledger holds, and what the journal says of the run's sessions."""

from __future__ import annotations

from collections import Counter
from typing import Any

from pellucid.replay import surroundings
from pellucid.report.blocks import Command, Section, Table, Words, missing, say
from pellucid.report.reported import Reported
from pellucid.store import layout, log

_SESSION = ("time", "pellucid", "python", "platform", "processor", "cores", "processes")
_PACKAGES = ("torch", "numpy", "pyarrow", "tokenizers", "safetensors", "sympy")
_COUNTED = {
    "start": "starts",
    "resume": "times continued",
    "stop": "stops",
    "repair": "repairs of unfinished files",
    "rollback": "rollbacks",
    "finish": "ends of training",
}
_MOST = 1000  # Sessions whose words are kept: a journal may hold any number.


def incidents(run: Reported) -> Section:
    """What the recipe's rules decided, and the steps that rollbacks abandoned."""
    if run.ledger is None:
        return missing("Incidents", "No step is taken yet.", run.command("run"))
    every, section = run.about["incidents"], Section(Words("Incidents and branches"))
    back = [
        {name: one[name] for name in ("branch", "step", "to")}
        | {"abandoned": one["step"] - one["to"]}
        for one in run.ledger.rollbacks
    ]
    if every:
        rows = [(f"{one['step']:,}", one["why"], one["action"]) for one in every]
        head = tuple(map(Words, ("step", "what the rules saw", "what was done")))
        section.blocks.append(Table(Words("Incidents, from the ledger"), head, rows, 3))
    else:
        section.blocks.append(say(Words("The ledger has no incident.")))
    if back:
        names = ("branch", "step", "to", "abandoned")
        cells = [tuple(f"{one[name]:,}" for name in names) for one in back]
        head = ("branch", "went back from step", "to step", "steps abandoned")
        told = Words("Branches: each begins with a rollback")
        section.blocks.append(Table(told, tuple(map(Words, head)), cells))
    section.numbers = {"incidents": every, "branches": back}
    section.checks = [
        Command(run.command("verify"), Words("decides about every incident again by the rules"))
    ]
    return section


def environment(run: Reported) -> Section:
    """Sessions, machines and versions, from the journal."""
    path = run.folder / layout.JOURNAL
    if not path.is_file():
        return missing("Environment", "The run has no journal yet.", run.command("run"))
    counts, sessions, stages = Counter[str](), list[dict[str, str]](), list[dict[str, str]]()
    for entry in log.read(path):
        if (kind := str(entry.body.get("kind"))) in _COUNTED:
            counts[kind] += 1
        if kind == "start" and len(sessions) < _MOST:
            sessions.append({name: str(entry.body.get(name, "-")) for name in _SESSION})
        if kind == "stage" and len(stages) < _MOST:
            stages.append({name: str(entry.body.get(name, "-")) for name in ("stage", "seconds")})
    known = surroundings.of_run(run.folder)
    named = {name.removeprefix("package "): known[name] for name in known if _is_package(name)}
    section = Section(Words("Environment"))
    section.blocks.append(say(Words(_WORDS)))
    section.blocks.append(_sessions(sessions))
    section.blocks.append(_counts(counts, stages))
    shown = [(name, named[name]) for name in _PACKAGES if name in named]
    caption = Words(f"Packages of the last session, of {len(named):,} in its lock file")
    section.blocks.append(Table(caption, (Words("package"), Words("version")), shown, 2))
    section.numbers = {
        "sessions": sessions,
        "stages": stages,
        "entries": dict(counts),
        "packages": named,
    }
    section.checks = [Command(run.command("verify"), Words("checks the chain of the journal"))]
    return section


_WORDS = (
    "The journal says what happened, and with what. Its chain is checked. Its words are those of "
    "the machine that trained, and no check computes them."
)


def _is_package(name: str) -> bool:
    return name.startswith("package ")


def _sessions(sessions: list[dict[str, str]]) -> Table:
    rows: list[Any] = [tuple(one[name] for name in _SESSION) for one in sessions]
    return Table(Words("Sessions"), tuple(map(Words, _SESSION)), rows, 5)


def _counts(counts: Counter[str], stages: list[dict[str, str]]) -> Table:
    rows = [(Words(words), f"{counts[kind]:,}") for kind, words in _COUNTED.items() if counts[kind]]
    rows += [(f"seconds of the stage {one['stage']}", one["seconds"]) for one in stages]
    return Table(Words("What the journal counts"), (Words("what"), Words("value")), rows)
