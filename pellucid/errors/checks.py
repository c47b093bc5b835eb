"""Checks that failed: exit code 5."""

from __future__ import annotations

from pellucid.errors.base import CheckFailed


class LedgerBroken(CheckFailed):
    message = """{path}: {where}: {detail}. Do not trust the entries after it. Take the run
    from a copy that passes `pellucid verify`."""


class EvaluationBroken(CheckFailed):
    message = """{path}: entry {entry}: {detail}. Do not trust the evaluations after it. Run
    `pellucid verify` to see everything that is wrong. To measure again, remove evaluations/."""


class TaskDiffers(CheckFailed):
    message = """{path}: entry {entry} says that {task} was asked, which it was not: {detail}. Do
    not trust its numbers. Ask the task itself: remove evaluations/, and run `pellucid evaluate`."""


class EvaluationsUnfit(CheckFailed):
    message = """The evaluations of {path} cannot be sealed, for verify would refuse them: {error},
    {where}: {detail}. Remove evaluations/ to seal the run without them, or to ask again."""


class HeadDiffers(CheckFailed):
    message = """{path} has the head {found}, but the same recipe and data gave {stated}
    elsewhere. Portable arithmetic promises the same head on every machine. Run `pellucid
    audit` on both machines to see which step differs, and report the result."""


class LedgerDiffers(CheckFailed):
    message = """{where}: recomputed {field} is {found}, but the ledger records {recorded}.
    The record is wrong, or this machine computes wrongly. Run `pellucid audit` on another
    machine to tell which."""


class StateDiffers(CheckFailed):
    message = """{path} has the root {found}, but the ledger records {recorded} for step
    {step}{blame}. {fix}"""

    optional = ("blame",)


class ProcessDiffers(CheckFailed):
    message = """Process {process} has another {what} than the first process: {found}, not
    {expected}. All processes need the same recipe.toml, the same data/ and the same
    pellucid. Copy them to every machine, or keep the run on a shared disk. If they are
    equal already, the machine of that process is faulty."""


class ProofInvalid(CheckFailed):
    message = """The file is not a proof for that head: {detail}. The file was changed, or
    belongs to another run. Make a new proof with `pellucid prove`, and take the head from a
    source you trust."""


class ProofUnreadable(ProofInvalid):
    message = """This file is no proof: {detail}. Name a file that `pellucid prove` wrote, or make a
    proof with: pellucid prove RUN document ID --output FILE"""


class ChunkDiffers(CheckFailed):
    message = """{path}: the chunk of {tensor} at element {first} has the BLAKE3 digest
    {found}, but the proof shows {expected}. The file is damaged or was replaced. Take it
    from another copy."""


class VerifyFailed(CheckFailed):
    message = """{path}: {count} problem(s), listed above. {fix}"""


class BitsDiffer(CheckFailed):
    message = """{path}: the same steps gave different bits under {axes}. The recipe's
    arithmetic promises equal bits. Do not trust what this machine computes this way. Report
    it with the output of `pellucid plan --measure --json`."""


class AuditFailed(CheckFailed):
    message = """{path}: the replay of {steps} does not match the record, as listed above.
    The run was changed, or this machine computes differently. Audit a run that you trust on
    this machine to tell which."""


class RunsDiffer(CheckFailed):
    message = """{a} and {b} differ, first at {where}, as explained above. See docs/diff.md
    for what the explanation can name."""
