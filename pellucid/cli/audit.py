"""Check: audit."""

from __future__ import annotations

import itertools
import re
import secrets
from pathlib import Path
from typing import Annotated, Any

import typer

from pellucid.answers import print_difference
from pellucid.cli.common import (
    HERE,
    Json,
    Run,
    inputs_of,
    on_terminal,
    print_json,
    step_number,
    teaches,
)
from pellucid.errors import AuditFailed, CommandInvalid, EvaluationsMissing, PellucidError
from pellucid.terminal import plain

_SHOWN = 20  # Findings printed one by one; of more only those that are not as recorded.


@teaches(
    """Replay steps from the stored states before them, and compare their bits with the ledger.

    pellucid audit RELEASE --step 120 --step 300
    pellucid audit RELEASE --steps 13 --seed 94821
    pellucid audit RELEASE --budget 5m
    pellucid audit RELEASE --step 120 --microbatch random
    pellucid audit RELEASE --all --dry-run
    pellucid audit RELEASE --samples
    pellucid audit RELEASE --evaluations 20

    Use a seed that the trainer could not foresee: omit --seed, or draw the seed after the release
    is out. Steps on the way to a chosen step are compared too. The last validation and up to three
    incidents of no finite number (all with --all) are always recomputed, except with --microbatch.
    """
)
def audit(
    folder: Run = HERE,
    step: Annotated[
        list[str],
        typer.Option(
            "--step",
            metavar="K",
            help="A step to audit; may be repeated.",
            show_default="one step, chosen by the seed",
        ),
    ] = [],  # noqa: B006
    steps: Annotated[
        int | None,
        typer.Option("--steps", metavar="N", min=1, help="Audit N steps, chosen by the seed."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, help="Chooses the steps; draw it yourself.", show_default="a new seed, printed"
        ),
    ] = None,
    budget: Annotated[
        str,
        typer.Option(
            metavar="TIME",
            help="Audit as many steps as fit into 60s, 5m or 2h.",
            show_default="none",
        ),
    ] = "",
    every: Annotated[bool, typer.Option("--all", help="Audit every step, on all cores.")] = False,
    microbatch: Annotated[
        str,
        typer.Option(
            metavar="I",
            help="Audit only this microbatch of the step, or random.",
            show_default="all",
        ),
    ] = "",
    samples: Annotated[
        bool,
        typer.Option(
            "--samples", help="Audit no step, but the texts that the site shows of stored states."
        ),
    ] = False,
    evaluations: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Audit no step, but N answers of the evaluations, chosen by the seed.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print what the audit needs here, and what fits.")
    ] = False,
    as_json: Json = False,
) -> None:
    from pellucid.replay.request import Request

    if samples or evaluations:
        word = "--samples" if samples else "--evaluations"
        both = bool(samples and (evaluations or seed is not None))
        if step or steps or budget or every or microbatch or dry_run or both:
            detail = "give it without an option that chooses steps"
            raise CommandInvalid(verb="audit", word=word, detail=detail)
        _samples(folder, as_json) if samples else _evaluations(folder, evaluations, seed, as_json)
        return
    request = Request.of(
        inputs_of(folder),
        [step_number(text) for text in step],
        steps,
        seed,
        _seconds(budget),
        every,
        microbatch,
    )
    if dry_run:
        _dry_run(request, as_json)
    elif microbatch:
        _microbatch(request, as_json)
    else:
        audit_run(request, as_json)


def _seconds(text: str) -> float | None:
    if not text:
        return None
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)(s|m|h)", text)
    if not match:
        raise CommandInvalid(verb="audit", word=text, detail="--budget takes 60s, 5m or 2h")
    return float(match.group(1)) * {"s": 1, "m": 60, "h": 3600}[match.group(2)]


def audit_random_step(folder: Path) -> None:
    """What demo does: one step by a fresh seed."""
    from pellucid.replay.request import Request

    audit_run(Request.of(inputs_of(folder), [], 1, None, None, False, ""), as_json=False)


def audit_run(request: Any, as_json: bool) -> None:

    with on_terminal(quiet=as_json) as terminal:
        if note := request.too_many():
            terminal.note(note)
        report = request.run(terminal.watch("audit"))
    if not as_json:
        _print_report(report)
    why: dict[str, Any] = {}
    try:
        if report.failed:
            why = _why(request.inputs, report.failed[0].step, as_json)
    finally:  # What was found is told, whatever ends the explaining.
        if as_json:
            print_json(report.as_json() | why)
    if "difference" in why and not as_json:
        print_difference(why["difference"])
    if "unexplained" in why and not as_json:
        print(f"audit: no further explanation: {plain(why['unexplained'])}")
    if not report.ok:
        raise AuditFailed(path=request.inputs.folder, steps=report.wrong)


def _print_report(report: Any) -> None:

    for finding in report.findings if len(report.findings) <= _SHOWN else report.failed:
        _print_finding(finding)
    for problem in report.problems:
        print(f"  {plain(problem)}")
    print(f"audit: {report}", flush=True)


def _why(inputs: Any, step: int, as_json: bool) -> dict[str, Any]:
    """What diff says of the first step that failed; nothing where its bits are
    as recorded, and not its texts.

    Raises nothing: whatever a release holds that explaining it stumbles over, the finding stands.
    """
    from pellucid.replay.diff import explain_audit

    try:
        with on_terminal(quiet=as_json) as terminal:
            watch = terminal.watch(f"step {step}")
            difference = explain_audit(inputs, step, watch, terminal.search)
    except Exception as error:  # noqa: BLE001
        name = error.name if isinstance(error, PellucidError) else type(error).__name__
        return {"unexplained": f"{name}: {error}"}
    return {} if difference.equal else {"difference": difference.as_json()}


def _print_finding(finding: Any) -> None:

    for problem in finding.problems:
        print(f"  {plain(problem)}")
    others = (
        "NOT the recorded bits"
        if finding.actual != finding.expected
        else "bit-equal, but NOT as published"
    )
    verdict = "bit-equal" if finding.ok else others
    print(
        f"audit: step {finding.step} {verdict}: {finding.replayed} step(s) replayed in "
        f"{finding.seconds:.1f} s"
    )
    if finding.ok:
        print(f"       state {finding.actual}")


def _samples(folder: Path, as_json: bool) -> None:
    """The texts of a site's samples, computed again from the stored states."""
    from pellucid.look.samples import samples
    from pellucid.site.data import Site
    from pellucid.site.samples import published, shown

    inputs, plan = inputs_of(folder), shown(folder, Site(folder).overview)
    texts = published(folder, plan)
    computed = samples(inputs, plan.steps, plan.prompts, plan.tokens)
    wrong = [
        (step, prompt)
        for step, own, again in zip(plan.steps, texts, computed, strict=True)
        for prompt, text, other in zip(plan.prompts, own, again, strict=True)
        if text != other
    ]
    count, head = len(plan.steps) * len(plan.prompts), inputs.recorded().head
    if as_json:
        differing = [{"step": step, "prompt": prompt} for step, prompt in wrong]
        print_json({"ok": not wrong, "head": head, "texts": count, "differing": differing})
    else:
        for step, prompt in wrong:
            print(f"  step {step}: writes another text behind {plain(prompt)!r}")
        verdict = f"{len(wrong):,} of them NOT as published" if wrong else "as published"
        print(f"audit: {count:,} texts of {len(plan.steps):,} states computed again: {verdict}")
    if wrong:
        raise AuditFailed(path=folder, steps=f"the samples of step {wrong[0][0]}")


def _evaluations(folder: Path, count: int | None, seed: int | None, as_json: bool) -> None:
    """Answers of evaluations, computed again from the states that they are of."""
    from pellucid.evaluate.again import ask_again

    inputs, seed = inputs_of(folder), secrets.randbits(32) if seed is None else seed
    with on_terminal(quiet=as_json) as terminal:
        asked, of = ask_again(inputs, count or 0, seed, terminal.watch("replay"))
    if not asked:
        raise EvaluationsMissing(path=folder)
    wrong, head = [one for one in asked if not one.same], inputs.recorded().head
    if as_json:
        about = {"ok": not wrong, "head": head, "seed": seed, "answers": len(asked)}
        about["of"] = of
        print_json(about | {"differing": [one.as_json() for one in wrong]})
    else:
        for one in wrong[:_SHOWN]:
            place = f"evaluation {one.entry['n']} ({one.entry['task']} of step {one.entry['step']})"
            print(plain(f"  {place}: example {one.line.example.name} has another answer"))
        verdict = f"{len(wrong):,} answers NOT as recorded" if wrong else "answers as recorded"
        print(f"audit: {len(asked):,} of {of:,} examples asked again: {verdict} (--seed {seed})")
    if wrong:
        raise AuditFailed(path=folder, steps=f"an answer of evaluation {wrong[0].entry['n']}")


def _microbatch(request: Any, as_json: bool) -> None:

    with on_terminal(quiet=as_json) as terminal:
        proof = request.run_microbatch(terminal.watch("state"))
    if as_json:
        print_json(proof.as_json() | {"seed": request.seed, "head": request.head})
    else:
        for problem in proof.problems:
            print(f"  {plain(problem)}")
        verdict = "bit-equal" if proof.ok else "NOT the recorded bits"
        print(
            f"audit: step {proof.step}, microbatch {proof.microbatch} of {proof.of} {verdict}: ",
            end="",
        )
        print(
            f"{proof.seconds:.2f} s, and {proof.materialise_seconds:.1f} s for the state "
            "before the step"
        )
        print(f"       leaf {proof.actual}{request.chosen_by()}")
        if proof.ok:
            print(_PROVEN.format(step=proof.step, others=proof.of - 1))
    if not proof.ok:
        raise AuditFailed(
            path=request.inputs.folder, steps=f"step {proof.step}, microbatch {proof.microbatch}"
        )


_PROVEN = """\
       proven: from the recorded state before step {step}, this microbatch has the \
tokens, loss and gradient
       that the ledger commits to
       not checked: the other {others} microbatches, the step's sum and update, validations, \
the first state
       pellucid audit --step {step} checks all of these, except validations before the last"""


def _dry_run(request: Any, as_json: bool) -> None:
    needs = request.needs()
    if as_json:
        print_json(needs.as_json())
    else:
        print(f"audit of {needs.what}, on this machine:")
        for line in itertools.chain(needs.lines(), [needs.verdict()]):
            print(line)
    if not needs.fits:
        raise typer.Exit(1)
