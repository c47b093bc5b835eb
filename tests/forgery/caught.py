"""What a forgery is, and how it is looked at."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from pellucid.evaluate.again import ask_again
from pellucid.release.verify import verify
from pellucid.replay.audit import audit_step
from pellucid.replay.diff import diff
from tests.forgery.forge import STEP, opened, quiet, seal


class Forgery(NamedTuple):
    """What is made of an honest release, and what of it is found."""

    name: str
    # From the honest release, in a folder that is not there yet.
    make: Callable[[Path, Path], None]
    # What catches it: "verify", "audit", "evaluations": an audit of those; of a fork "diff" with
    # its parent.
    by: str
    error: str  # The error that verify names, the field that an audit does.
    where: str  # What else is named: a file, an entry, a step.
    step: int = STEP  # The step to audit.
    elsewhere: int | None = None  # A step whose audit passes, and cannot but pass.
    seal: Callable[[Path], None] = seal  # What fits the manifest to it.


class Caught(NamedTuple):
    """What came of looking at a forgery."""

    verified: list[str]  # What verify found, …
    audited: list[str]  # … and the audit of the step or of evaluations, …
    compared: list[str]  # … and the comparison with the parent.
    replayed: int
    seconds: float  # Of verify where that is what catches it, else of the audit.

    def by(self, forgery: Forgery) -> str:
        """The finding that names what it should, by what it should be
        found; empty where there is none."""
        by = {"verify": self.verified, "diff": self.compared}
        found = by.get(forgery.by, self.audited)
        return next((one for one in found if forgery.error in one and forgery.where in one), "")


def look(forgery: Forgery, honest: Path, folder: Path) -> Caught:
    """Everything that the catch takes, and no more."""
    report = verify(folder, lambda _: None)
    verified = [f"{one.error} {one.where}: {one.detail}" for one in report.problems]
    if forgery.by == "verify":
        return Caught(verified, [], [], 0, report.seconds)
    if forgery.by == "evaluations":
        return _asked(folder, verified)
    finding = audit_step(opened(folder), forgery.step, quiet)
    compared = []
    if forgery.by == "diff":
        found = diff(honest, folder, quiet)
        compared = [f"step {found.step}: {', '.join(one['field'] for one in found.fields)}"]
    return Caught(verified, list(finding.problems), compared, finding.replayed, finding.seconds)


def _asked(folder: Path, verified: list[str]) -> Caught:
    """All answers of evaluations, asked again."""
    began = time.perf_counter()
    asked, _ = ask_again(opened(folder), 10**6, 1, quiet)
    wrong = [f"{one.entry['task']} of step {one.entry['step']}" for one in asked if not one.same]
    return Caught(verified, wrong, [], 0, time.perf_counter() - began)
