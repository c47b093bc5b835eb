"""Check: verify and audit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pellucid.cli.common import HERE, Json, Run, inputs_of, on_terminal, print_json, step_number
from pellucid.errors import AuditFailed, VerifyFailed


def verify(folder: Run = HERE, as_json: Json = False) -> None:
    """Check everything that needs no computing: files, chains, data, batches, numbers, states. No torch."""
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
    if not report.ok:
        raise VerifyFailed(path=folder, count=len(report.problems))


def audit(
    folder: Run = HERE,
    step: Annotated[
        list[str],
        typer.Option("--step", metavar="K", help="A step to audit; may be repeated.", show_default="one at random"),
    ] = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Compute steps again from the anchor before each, and compare their bits with the ledger.

    pellucid audit RELEASE --step 120 --step 300
    """
    audit_steps(folder, [step_number(text) for text in step], as_json)


def audit_steps(folder: Path, steps: list[int], as_json: bool = False) -> None:
    from pellucid.demo import random_step
    from pellucid.replay.audit import audit_step

    inputs, findings = inputs_of(folder), []
    for number in steps or [random_step(folder)]:
        with on_terminal(quiet=as_json) as terminal:
            finding = audit_step(inputs, number, terminal.watch(f"step {number}"))
        findings.append(finding)
        if not as_json:
            _print_finding(finding)
    ok = all(finding.ok for finding in findings)
    if as_json:
        print_json({"ok": ok, "steps": [finding.as_json() for finding in findings]})
    if not ok:
        wrong = ", ".join(f"step {finding.step}" for finding in findings if not finding.ok)
        raise AuditFailed(path=folder, steps=wrong)


def _print_finding(finding: Any) -> None:
    from pellucid.terminal import plain

    for problem in finding.problems:
        print(f"  {plain(problem)}")
    verdict = "bit-equal" if finding.ok else "NOT the recorded bits"
    print(f"audit: step {finding.step} {verdict}: {finding.replayed} step(s) replayed in {finding.seconds:.1f} s")
    if finding.ok:
        print(f"       state {finding.actual}")
