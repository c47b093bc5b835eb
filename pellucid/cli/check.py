"""Check: verify."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pellucid.cli.common import HERE, Json, Run, print_json, teaches
from pellucid.errors import VerifyFailed

if TYPE_CHECKING:
    from pellucid.release.verify import Report

_SHOWN = 10  # Names of what is no part of a run.


@teaches("""Check everything that needs no computing: files, chains, data, batches, numbers, states. No torch.""")
def verify(folder: Run = HERE, as_json: Json = False) -> None:
    from pellucid.release.verify import verify
    from pellucid.terminal import plain

    report = verify(folder, lambda what: None)
    if as_json:
        print_json(report.as_json())
    else:
        for problem in report.problems:
            print(plain(f"{problem.error}: {problem.where}: {problem.detail}"))
        found = "ok" if report.ok else f"{len(report.problems)} problem(s)"
        sealed = "" if report.sealed else " (not sealed: files are not held against a manifest)"
        print(f"verify: {found} in {report.seconds:.2f} s: {', '.join(report.checked)}{sealed}")
        if report.unlisted:
            names = ", ".join(report.unlisted[:_SHOWN]) + (", …" if len(report.unlisted) > _SHOWN else "")
            print(plain(f"not part of the run, and checked by nothing: {names}"))
    if not report.ok:
        raise VerifyFailed(path=folder, count=len(report.problems), advice=_advice(folder, report))


def _advice(folder: Path, report: Report) -> str:
    """What to do about problems, by their kinds."""
    kinds = {problem.error for problem in report.problems}
    if kinds == {"FileAdded"}:
        return "All that was sealed is there and whole; these files are no part of it: move them out of the folder."
    if kinds == {"LedgerIncomplete"} and not report.sealed:
        return f"The run has not ended, and what there is of it is sound. Go on with: pellucid run {folder}"
    return "What they name is not what was sealed or recorded: take it from another copy, or do not trust it."
