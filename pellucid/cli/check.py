"""Check: verify."""

from __future__ import annotations

from pellucid.cli.common import HERE, Json, Run, print_json, teaches
from pellucid.errors import VerifyFailed

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
        raise VerifyFailed(path=folder, count=len(report.problems))
