"""What the machine does not give: disk, permission, memory, network,
another process. Exit code 3."""

from __future__ import annotations

from signal import Signals

from pellucid.errors.base import MachineError, UserError


class DiskFull(MachineError):
    message = """No space left while writing {path}. Everything recorded before it is intact. Free
    some space (or point placement at another disk), then run: pellucid run"""


class SetUnusable(MachineError):
    message = """{path}, a temporary file that holds which texts were seen: SQLite says {detail}.
    What is finished is intact. Check that disk and its folder (SQLITE_TMPDIR chooses another for
    temporary files), then run: pellucid run"""


class NoPermission(MachineError):
    message = """No permission to {action} {path}. Change the folder's permissions, or choose
    another folder."""


class RunBusy(MachineError):
    message = """Another process is working on {path}. Wait for it, or stop it (SIGTERM keeps its
    state)."""


class Unreachable(MachineError):
    message = """{url} could not be read: {detail}. Check the address and the network, and try
    again; a release that was downloaded needs neither."""


class RangesMissing(MachineError):
    message = """The server of {url} serves no byte ranges: {detail}. Put the release on one that
    does (nginx, S3 and the Hub do; python -m http.server does not), or download it and give its
    folder."""


class StackDiffers(MachineError):
    message = """This run was trained on {recorded}; here is {found}. Native arithmetic gives equal
    bits only on an equal stack: replay it there, or install what differs ({detail})."""


class KernelsMissing(MachineError):
    message = """Portable arithmetic needs our C kernels, and they were not built when pellucid was
    installed: {detail}. Install a C compiler (Debian: apt install gcc) and install pellucid again,
    or use train.arithmetic = "native"."""


class KernelsUncompiled(KernelsMissing):
    message = """The C kernels of portable arithmetic did not compile when pellucid was installed:
    {words}. All that {compiler} said is in {path}. Install pellucid again without flags of your own
    (CFLAGS= pip install …); or please report it."""


class KernelsStale(MachineError):
    message = """The kernels in {path} were built from other C sources than the ones in {folder}.
    Build them again: pip install --no-deps --no-build-isolation --editable . in a checkout of
    pellucid, pip install --force-reinstall --no-deps pellucid elsewhere."""


class KernelsWrong(MachineError):
    message = """The kernels for {isa} do not give the golden bits of arithmetic portable 1
    (operation: {operation}). Nothing computed with them may be recorded. Build them again without
    CFLAGS of your own, or set PELLUCID_ISA=scalar; if it stays, the compiler or the CPU is at
    fault: please report it."""


class MachineLacks(MachineError):
    message = """{variable} asks for {name!r}, which this machine or this build does not have. Known
    are {known}; unset it to take the best here, {best}."""


class AuditLost(MachineError):
    message = """A process that replayed a part of {path} was killed; most often the memory ran out.
    Nothing is known to be wrong with the run. Audit it on fewer cores (taskset -c 0 pellucid audit
    {path} --all), or fewer steps (--steps N)."""


class IndexLost(MachineError):
    message = """A process that built the index of {path} is gone, most likely because the machine
    has too little memory; the pieces that are ready are kept. Go on with: pellucid run {path}
    --only index"""


class QueryLost(MachineError):
    message = """The process that looked for the answer ended without one: {detail}. The question
    may need more memory than there is: ask for less. If it is small, a table may be damaged: check
    it with pellucid verify RUN"""


class VariableInvalid(UserError):
    message = """The environment variable {variable} is {found!r}, and has to be {wanted}. Correct
    it, or unset it for the default, {default}."""


class ProcessLost(MachineError):
    message = """Process {process} cannot reach {lost}: it ended, or its machine or network did
    ({detail}). The torchrun that started it says which process ended first. What is recorded is
    intact; any number of processes continues from the last stored state: torchrun --nproc-per-node
    N -m pellucid run {path}"""


class TensorUnfit(UserError):
    message = """{operation}: {name} is {found}, and has to be {wanted}. This is a mistake in the
    calling program."""


class MemoryTooSmall(MachineError):
    message = """{what} takes {needed} GB of memory, and this machine has {found} GB. `pellucid
    plan` tells what takes it and what to change; verify and show work here."""


class MeasuringFailed(MachineError):
    message = """Not measured: {detail}. What was measured is printed above; --skip KIND leaves the
    rest out."""


class LimitReached(MachineError):
    message = """This process may have no more {what} than {limit}, and needs more. Nothing is known
    to be wrong with what it read: {fix}"""


class Stopped(MachineError):
    message = """Stopped by {signal} at step {step}, whose state is stored. Continue with: pellucid
    run {path}"""

    def __init__(self, signal: str, **fields: object) -> None:
        super().__init__(signal=signal, **fields)
        self.exit_code = 128 + Signals[signal]  # As a shell counts.
