"""What the machine does not give: disk, permission, memory, network,
another process. Exit code 3."""

from __future__ import annotations

from signal import Signals

from pellucid.errors.base import MachineError, UserError


class DiskFull(MachineError):
    message = """No space left while writing {path}. Everything recorded before is intact.
    Free some space, or point placement at another disk. Then run: pellucid run"""


class SetUnusable(MachineError):
    message = """SQLite cannot use {path}, the temporary file of texts already seen:
    {detail}. Finished stages are intact. Check that disk, or choose another folder with
    SQLITE_TMPDIR. Then run: pellucid run"""


class NoPermission(MachineError):
    message = """No permission to {action} {path}. Change the permissions of the folder, or
    choose another folder."""


class RunBusy(MachineError):
    message = """Another process is working on {path}. Wait for it, or stop it with SIGTERM,
    which keeps its state."""


class Unreachable(MachineError):
    message = """Cannot read {url}: {detail}. Check the address and the network, and try
    again. A downloaded release needs no network."""


class PlaceUnwritable(MachineError):
    message = """Cannot write {url}: {detail}. Check the address, the network and your
    credentials, and publish again: what is there already is not sent again."""


class PlaceDiffers(MachineError):
    message = """{url} is not what was sent, and so are {count} file(s) in all. They were
    removed there. Send them again: pellucid publish {folder} --to {place}"""


class PortUnusable(MachineError):
    message = """Cannot serve at port {port} of this computer: {detail}. Choose another port with
    --port, or leave --port out to use a free port."""


class RangesMissing(MachineError):
    message = """The server of {url} does not serve byte ranges: {detail}. Put the release
    on a server that does (nginx, S3 and the Hub do; python -m http.server does not). Or
    download the release and give its folder."""


class StackDiffers(MachineError):
    message = """The run was trained on {recorded}, but this machine has {found}. Native
    arithmetic gives equal bits only on an equal stack. Replay the run on that stack, or
    install the different parts ({detail})."""


class SystemUnfit(MachineError):
    message = """Pellucid does not run on {system}. Install it in WSL (wsl --install), which
    is a Linux system inside Windows, and start it there."""


class KernelsMissing(MachineError):
    message = """Portable arithmetic needs C kernels, which were not built when pellucid was
    installed: {detail}. Install a C compiler (Debian: apt install gcc) and reinstall
    pellucid. Or set train.arithmetic = "native"."""


class KernelsUncompiled(KernelsMissing):
    message = """The C kernels of portable arithmetic did not compile when pellucid was
    installed: {words}. The full output of {compiler} is in {path}. Reinstall pellucid
    without your own flags (CFLAGS= pip install …), or report the output."""


class KernelsStale(MachineError):
    message = """The kernels in {path} were built from other C sources than those in {folder}.
    Rebuild them in a checkout: pip install --no-deps --no-build-isolation --editable . Or reinstall
    the package: pip install --force-reinstall --no-deps pellucid"""


class KernelsWrong(MachineError):
    message = """The kernels for {isa} do not give the golden bits of arithmetic portable 1
    (operation: {operation}). Do not trust what they compute. Rebuild them without your own
    CFLAGS, or set PELLUCID_ISA=scalar. If the error stays, the compiler or the CPU is
    faulty: report it."""


class MachineLacks(MachineError):
    message = """{variable} asks for {name!r}, which this machine or this build does not
    have. Choose from {known}, or unset it to use the best here, {best}."""


class AuditLost(MachineError):
    message = """A process that replayed a part of {path} was killed, most likely because
    memory ran out. The run may still be sound. Audit it on fewer cores (taskset -c 0
    pellucid audit {path} --all), or audit fewer steps (--steps N)."""


class EvaluationLost(MachineError):
    message = """A process that asked the model of {path} was killed, most likely because memory
    ran out. Finished answers are kept. Continue on fewer cores with the same command behind
    taskset -c 0."""


class IndexLost(MachineError):
    message = """A process that built the index of {path} was killed, most likely because
    memory ran out. The finished pieces are kept. Continue with: pellucid run {path} --only
    index"""


class QueryLost(MachineError):
    message = """The process of the query ended without an answer: {detail}. If memory ran
    out, ask for fewer steps or columns. If the query is small, a table may be damaged:
    pellucid verify RUN"""


class VariableInvalid(UserError):
    message = """The environment variable {variable} is {found!r}, but must be {wanted}.
    Correct it, or unset it to use the default, {default}."""


class ProcessLost(MachineError):
    message = """Process {process} cannot reach {lost}: it ended, or its machine or network
    failed ({detail}). The output of torchrun says which process ended first. Everything
    recorded is intact. Continue from the last stored state with any number of processes:
    torchrun --nproc-per-node N -m pellucid run {path}"""


class TensorUnfit(UserError):
    message = """{operation}: {name} is {found}, but must be {wanted}. Fix the calling
    program."""


class MemoryTooSmall(MachineError):
    message = """{what} takes {needed} GB of memory, but this machine has {found} GB. Run
    `pellucid plan` to see what takes memory and what to change. The verbs verify and show
    work on this machine."""


class MeasuringFailed(MachineError):
    message = """Not measured: {detail}. The other measurements are printed above. Leave out
    the rest with --skip KIND."""


class LimitReached(MachineError):
    message = """This process reached its limit of {what}: {limit}. The files that it read
    may be sound. {fix}"""


class Stopped(MachineError):
    message = """Stopped by {signal} at step {step}, whose state is stored. Continue with:
    pellucid run {path}"""

    def __init__(self, signal: str, **fields: object) -> None:
        super().__init__(signal=signal, **fields)
        self.exit_code = 128 + Signals[signal]  # As a shell counts.


class SandboxMissing(MachineError):
    message = """Programs that a model wrote cannot be confined on this machine: {detail}. Run the
    task `completion` on Linux (x86-64 or ARM64), where seccomp filters are allowed, or leave the
    task out."""
