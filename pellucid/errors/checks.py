"""Checks that failed: exit code 5."""

from __future__ import annotations

from pellucid.errors.base import CheckFailed


class LedgerBroken(CheckFailed):
    message = """{path}: {where}: {detail}. What follows that entry cannot be trusted; take the run
    from a copy that verifies."""


class HeadDiffers(CheckFailed):
    message = """{path} has the head {found}, and the same recipe and data gave {stated} elsewhere.
    Portable arithmetic promises one head on every machine: `pellucid audit` there and here tells
    which step differs; please report it."""


class LedgerDiffers(CheckFailed):
    message = """{where}: recomputed {field} is {found}, and the ledger records {recorded}. Either
    the record or this machine's arithmetic is wrong; `pellucid audit` on another machine tells
    which."""


class StateDiffers(CheckFailed):
    message = """{path}: the stored state has the root {found}, and the ledger records {recorded}
    for step {step}{blame}. It is damaged or was replaced; delete that folder to start from the
    anchor before it."""


class ProcessDiffers(CheckFailed):
    message = """Process {process} has another {what} than the first process: {found}, not
    {expected}. All processes of a run need the same recipe.toml, the same data and the same
    pellucid: copy recipe.toml and data/ to every machine, or put the run on a disk that they share.
    If these are equal, that process's machine computes or stores wrongly."""


class ProofInvalid(CheckFailed):
    message = """This is no proof for that head: {detail}. The file was changed, or is of another run:
    make one with `pellucid prove`, and take the head from whom you trust."""


class ChunkDiffers(CheckFailed):
    message = """{path}: the chunk of {tensor} that begins at element {first} has the BLAKE3 digest
    {found}, and the proof shows {expected}. The file was damaged or replaced: take it from another
    copy."""


class VerifyFailed(CheckFailed):
    message = """{path}: {count} problem(s) found, listed above. {advice}"""


class BitsDiffer(CheckFailed):
    message = """{path}: the same steps gave other bits under {axes}, where the recipe's arithmetic
    promises the same. Nothing computed so on this machine may be trusted; please report it with the
    output of plan --measure --json."""


class AuditFailed(CheckFailed):
    message = """{path}: the replay of {steps} did not give what is recorded and published, as
    listed above. Either that was changed or this machine computes otherwise: audit an undoubted run
    here to tell which."""


class RunsDiffer(CheckFailed):
    message = """{a} and {b} are not the same: the first difference is at {where}, as explained
    above. docs/diff.md tells what the explanation can name and what it cannot."""
