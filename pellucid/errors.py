"""Every error a user can meet, in one tree.

The class holds the exit code and, in its docstring, the message: what went wrong, where, and how to
mend it. Raising one fills the braces:

    raise SourceMissing(source="books", path="/data/books")

Exit codes: 2 the user's input, 3 the machine (disk, permission, busy), 4 the data, 5 a check that
failed, 6 the training stopped itself.
"""

from __future__ import annotations

from pellucid.error import PellucidError

# ---- the user's input ---------------------------------------------------------------------------


class UserError(PellucidError):
    """{detail}"""

    exit_code = 2


class RecipeMissing(UserError):
    """No recipe.toml in {path}. Make one with: pellucid new {path} --data PATH"""


class RecipeUnreadable(UserError):
    """{path} is not valid TOML: {detail}. Mend the file at that place."""


class RecipeTooNew(UserError):
    """{path} declares version {found}; this pellucid knows versions up to {known}. Upgrade pellucid,
    or take the release that made the recipe (record/environment.lock names it)."""


class RecipeUnknownKey(UserError):
    """{path}: unknown key {key}{hint}. Remove it or correct its name."""


class RecipeInvalid(UserError):
    """{path}: {key}: {detail}. Correct it there{setting}."""

    optional = ("setting",)


class RecipeChanged(UserError):
    """{path} now has the digest {found}, but the run in this folder was begun with {recorded}
    ({detail}). A run keeps its recipe: put the old value back, or let another run go on from one of its steps
    with the new one: pellucid fork {run} --step K --set KEY=VALUE --to DIR"""


class CommandInvalid(UserError):
    """{word}: {detail}. `pellucid {verb} --help` shows the ways to write it."""


class RunMissing(UserError):
    """{path} is not a run: it has no recipe.toml. Make one with: pellucid new {path} --data PATH"""


class FolderTaken(UserError):
    """{path} already holds {found}. Choose a new or empty folder{advice}."""

    optional = ("advice",)


class LinkInside(UserError):
    """{path} is a symbolic link, and nothing inside a run may be one: what is written or removed there would be at its
    other end. Put the files in its place: rm {path} && mv {target} {path}. To keep a run on another disk, move the
    whole folder and make a link to it; to keep a part there, mount it: mount --bind DIR {path}"""


class StepUnknown(UserError):
    """{what} is not in this run: {detail}. `pellucid status RUN` tells how far it goes."""


class DocumentUnknown(UserError):
    """No document {document} in this run{near}. `pellucid show RUN documents TEXT` lists those that have TEXT in
    their ids."""

    optional = ("near",)


class TextEmpty(UserError):
    """There is nothing to lose in {what}: it has no token that the model would have to guess. Give a text with at least
    one character."""


class TextInvalid(UserError):
    """The text is not Unicode: {detail}. Give it in UTF-8, as a terminal with a UTF-8 locale does."""


class PlotMissing(UserError):
    """A picture needs matplotlib, which is not installed. Install it with: pip install "pellucid[plot]" (or draw in the
    terminal with --plot -)"""


class StageUnknown(UserError):
    """There is no stage {stage}. The stages are: {known}."""


class StageNotReady(UserError):
    """{stage} needs {needs} first. Run: pellucid run {path} --only {needs}"""


class IndexMissing(UserError):
    """{path} has no index of its texts. Make one with: pellucid run {path} --only index"""


class QueryEmpty(UserError):
    """There is no text to look for. Write it behind the run, or name a file that holds it: --file PATH"""


class NotTrained(UserError):
    """{path} has no step yet: {detail}. Train it with: pellucid run {path}"""


class NotFinished(UserError):
    """{path} stands at step {step} of {steps}; only a finished run can be sealed. Finish it with:
    pellucid run {path}"""


class BudgetTooSmall(UserError):
    """A budget of {budget} is too little: the first step that the seed chooses, step {step}, needs {needed} s
    here. Give --budget {needed}s or more, or audit a step right behind an anchor with --step."""


class MicrobatchUnknown(UserError):
    """Step {step} has no microbatch {index}: there are {count}, counted from 0. Take one of them, or
    --microbatch random."""


class MicrobatchUncommitted(UserError):
    """The recipe of {path} has record.commitment = "{found}", so its ledger binds no microbatch's gradient, and
    one alone cannot be proven. Audit the whole step: pellucid audit {path} --step {step}; a new run commits to
    them with --set record.commitment=microbatches"""


class ReleaseSealed(UserError):
    """{path} is sealed: its manifest lists every file, and another recipe.toml or other anchors would break it. Remove
    {path}/manifest.jsonl, make the change, and seal it again with: pellucid publish {path}"""


class QueryInvalid(UserError):
    """Not a question that this run answers: {detail}. `pellucid sql RUN` alone lists the views and their columns."""


class QueryStopped(UserError):
    """No answer within {seconds} s. Ask for less (fewer steps, no text), or give --seconds more."""


class QueryTooLarge(UserError):
    """The answer has more than {most} bytes. Ask for less (fewer steps or columns, LIMIT), or for a part at a time."""


class UrlInvalid(UserError):
    """{url} is not the address of a release: {detail}. Give the folder that manifest.jsonl lies in, as
    https://host/folder or s3://bucket/folder."""


class ReleaseMissing(UserError):
    """{url} holds no sealed release: there is no manifest.jsonl. Correct the address; a run that is not sealed yet is
    sealed with: pellucid publish RUN"""


class FolderNeeded(UserError):
    """This verb reads all of a release, or writes to it, and {url} is an address. Download it first, say with
    wget -r or aws s3 sync, and give its folder. What reads from an address: show, status, where, trace, sql, sample and
    export."""


class DriverMissing(UserError):
    """Reading {scheme}:// takes a driver of fsspec that is not installed: {detail}. Install it (for s3: pip install
    s3fs; for gs: pip install gcsfs; for az: pip install adlfs)."""


class TorchMissing(UserError):
    """This verb computes and needs torch, which is not installed. Install it with: pip install torch
    (verify, show, status and publish work without it)."""


class TooMuchMemory(UserError):
    """Reading this release takes more memory than a verb that only reads may have (docs/threats.md says how much). No
    honest one needs it: do not trust this one."""


class DeviceMissing(UserError):
    """The recipe asks for the device {device}, which torch does not find here. Set
    placement.device = "cpu", or run where it exists."""


class ForkUnfit(UserError):
    """A fork cannot change {key}: {detail}. Make a new run for that: pellucid new DIR --data PATH"""


# ---- the machine --------------------------------------------------------------------------------


class MachineError(PellucidError):
    """{detail}"""

    exit_code = 3


class DiskFull(MachineError):
    """No space left while writing {path}. Everything recorded before it is intact. Free some space
    (or point placement at another disk), then run: pellucid run"""


class SetUnusable(MachineError):
    """{path}, a temporary file that holds which texts were seen: SQLite says {detail}. What is finished is intact.
    Check that disk and its folder (SQLITE_TMPDIR chooses another for temporary files), then run: pellucid run"""


class NoPermission(MachineError):
    """No permission to {action} {path}. Change the folder's permissions, or choose another folder."""


class RunBusy(MachineError):
    """Another process is working on {path}. Wait for it, or stop it (SIGTERM keeps its state)."""


class Unreachable(MachineError):
    """{url} could not be read: {detail}. Check the address and the network, and try again; a release that was
    downloaded needs neither."""


class RangesMissing(MachineError):
    """The server of {url} serves no byte ranges: {detail}. Put the release on one that does (nginx, S3 and the Hub
    do; python -m http.server does not), or download it and give its folder."""


class StackDiffers(MachineError):
    """This run was trained on {recorded}; here is {found}. Native arithmetic gives equal bits only on
    an equal stack: replay it there, or install what differs ({detail})."""


class KernelsMissing(MachineError):
    """Portable arithmetic needs our C kernels, and they were not built when pellucid was installed: {detail}.
    Install a C compiler (Debian: apt install gcc) and install pellucid again, or use train.arithmetic = "native"."""


class KernelsUncompiled(KernelsMissing):
    """The C kernels of portable arithmetic did not compile when pellucid was installed: {words}. All that {compiler}
    said is in {path}. Install pellucid again without flags of your own (CFLAGS= pip install …); or please report it."""


class KernelsWrong(MachineError):
    """The kernels for {isa} do not give the golden bits of arithmetic portable 1 (operation: {operation}). Nothing
    computed with them may be recorded. Build them again without CFLAGS of your own, or set PELLUCID_ISA=scalar;
    if it stays, the compiler or the CPU is at fault: please report it."""


class MachineLacks(MachineError):
    """{variable} asks for {name!r}, which this machine or this build does not have. Known are {known}; unset it to take
    the best here, {best}."""


class AuditLost(MachineError):
    """A process that replayed a part of {path} was killed; most often the memory ran out. Nothing is known to be wrong
    with the run. Audit it on fewer cores (taskset -c 0 pellucid audit {path} --all), or fewer steps (--steps N)."""


class IndexLost(MachineError):
    """A process that built the index of {path} is gone, most likely because the machine has too little memory; the
    pieces that are ready are kept. Go on with: pellucid run {path} --only index"""


class QueryLost(MachineError):
    """The process that looked for the answer ended without one: {detail}. The question may need more memory than there
    is: ask for less. If it is small, a table may be damaged: check it with pellucid verify RUN"""


class VariableInvalid(UserError):
    """The environment variable {variable} is {found!r}, and has to be {wanted}. Correct it, or unset it for
    the default, {default}."""


class ProcessLost(MachineError):
    """Process {process} cannot reach {lost}: it ended, or its machine or network did ({detail}). The torchrun that
    started it says which process ended first. What is recorded is intact; any number of processes continues from
    the last stored state: torchrun --nproc-per-node N -m pellucid run {path}"""


class TensorUnfit(UserError):
    """{operation}: {name} is {found}, and has to be {wanted}. This is a mistake in the calling program."""


class MemoryTooSmall(MachineError):
    """{what} takes {needed} GB of memory, and this machine has {found} GB. `pellucid plan` tells what takes it and what
    to change; verify and show work here."""


class MeasuringFailed(MachineError):
    """Not measured: {detail}. What was measured is printed above; --skip KIND leaves the rest out."""


class LimitReached(MachineError):
    """This process may have no more {what} than {limit}, and needs more. Nothing is known to be wrong with what it
    read: {mend}"""


class Stopped(MachineError):
    """Stopped by {signal} at step {step}, whose state is stored. Continue with: pellucid run {path}"""

    exit_code = 143


# ---- the data -----------------------------------------------------------------------------------


class DataError(PellucidError):
    """{detail}"""

    exit_code = 4


class SourceMissing(DataError):
    """Source {source}: {path} does not exist. Correct the path, in recipe.toml or behind --data."""


class SourceEmpty(DataError):
    """Source {source}: {path} gave no document ({dropped}). Check the path, the format ({format}) and
    the include patterns."""


class FormatForeign(DataError):
    """Source {source}: {path} is {what}, which is not read as it is. {mend}"""


class TextKeyMissing(DataError):
    """Source {source}: {path}: none of the first {records} records has a text under "{key}". The keys that hold texts
    or chats, and in how many records: {found}. Name one: --set data.sources.{source}.text_key={name}"""


class RunInsideData(DataError):
    """Source {source}: {path} and the run in {folder} lie in each other, so the run would read what it writes. Make
    the run elsewhere, or name the texts' own folder."""


class SourceUnreadable(DataError):
    """Source {source}: {path}: {detail}. Mend or remove that file, or correct the format."""


class PackageMissing(DataError):
    """Source {source}: the Python package {package} is not installed. Install it with: pip install {package}"""


class PackageDiffers(DataError):
    """Source {source}: {path} of the package {package} {detail}. Reinstall it with:
    pip install --force-reinstall --no-deps {package}"""


class DataDiffers(DataError):
    """The recipe (data.root), or the ledger of a run that has begun, pins the data root {pinned}, but these
    sources give {found}. The texts differ from those it was written for: get the original texts, or remove data.root
    and begin a new run."""


class CorpusTooSmall(DataError):
    """The corpus gives {found} {what}, and the recipe needs at least {needed}: {mend}"""


class NoValidation(DataError):
    """None of the {documents} documents falls into the validation split of {share} in 10000. Raise
    data.validation_per_10000, or lower data.max_document_characters so that documents are smaller."""


class TokenizerInvalid(DataError):
    """{path}: not a usable tokenizer: {detail}. Name a tokenizer.json made by the tokenizers
    library, of the parts that docs/format.md lists."""


class DocumentTokenUnclear(DataError):
    """{path}: nothing in it says which token begins a document. Name one of {candidates}:
    --set 'tokenizer.document_token={first}'"""


class VocabularyTooLarge(DataError):
    """The vocabulary has {vocabulary} tokens, and a {token_type} shard holds ids below {limit}. Set
    data.token_type = "uint32"."""


class ShardDamaged(DataError):
    """{path} is {found} bytes long and its manifest says {expected}. Delete data/shards and run again,
    or fetch the release anew."""


class FormatInvalid(DataError):
    """{path}: {detail}. The file is damaged or was not written by pellucid; `pellucid verify` tells
    which files are intact."""


class FileMissing(FormatInvalid):
    """{path} is not there, and what was asked for needs it. The run is incomplete: fetch it anew, or take the file from
    another copy."""


class FormatTooNew(DataError):
    """{path} has format version {found}; this pellucid reads up to {known}. Upgrade pellucid."""


class AnswerInvalid(DataError):
    """The server of {url} {detail}. Nothing of that answer was used: try again, or take the release from another
    place."""


class RemoteChanged(DataError):
    """{url} is not what the release's manifest describes, or changed while it was read: {detail}. Read it again; if it
    stays so, take the release from another place."""


class RemoteDiffers(DataError):
    """{url} has the SHA-256 {found}, and the release's manifest says {expected}. It is damaged or was replaced: do not
    trust it, and take the release from another place."""


class PathUnsafe(DataError):
    """{path} names the path {entry!r}, which is {detail}. A release may only name files inside its
    own folder; do not trust this one."""


# ---- checks that failed -------------------------------------------------------------------------


class CheckFailed(PellucidError):
    """{detail}"""

    exit_code = 5


class LedgerBroken(CheckFailed):
    """{path}: {where}: {detail}. What follows that entry cannot be trusted; take the run from a copy
    that verifies."""


class HeadDiffers(CheckFailed):
    """{path} has the head {found}, and the same recipe and data gave {stated} elsewhere. Portable arithmetic promises
    one head on every machine: `pellucid audit` there and here tells which step differs; please report it."""


class LedgerDiffers(CheckFailed):
    """{where}: recomputed {field} is {found}, and the ledger records {recorded}. Either the record or
    this machine's arithmetic is wrong; `pellucid audit` on another machine tells which."""


class StateDiffers(CheckFailed):
    """{path}: the stored state has the root {found}, and the ledger records {recorded} for step {step}{blame}. It is
    damaged or was replaced; delete that folder to start from the anchor before it."""


class ProcessDiffers(CheckFailed):
    """Process {process} has another {what} than the first process: {found}, not {expected}. All processes of a run
    need the same recipe.toml, the same data and the same pellucid: copy recipe.toml and data/ to every machine, or put
    the run on a disk that they share. If these are equal, that process's machine computes or stores wrongly."""


class VerifyFailed(CheckFailed):
    """{path}: {count} problem(s) found, listed above. What they name is not what was sealed or recorded:
    take it from another copy, or do not trust it."""


class BitsDiffer(CheckFailed):
    """{path}: the same steps gave other bits under {axes}, where the recipe's arithmetic promises the same. Nothing
    computed so on this machine may be trusted; please report it with the output of plan --measure --json."""


class AuditFailed(CheckFailed):
    """{path}: the replay of {steps} did not give what is recorded and published, as listed above. Either that was
    changed or this machine computes otherwise: audit an undoubted run here to tell which."""


class RunsDiffer(CheckFailed):
    """{a} and {b} are not the same: the first difference is at {where}, as explained above. docs/diff.md tells what
    the explanation can name and what it cannot."""


# ---- training that stopped itself ---------------------------------------------------------------


class TrainingStopped(PellucidError):
    """{detail}"""

    exit_code = 6


class NotFinite(TrainingStopped):
    """Step {step}: {words} is {value}. The run stopped there, and everything recorded before it is
    intact. Lower train.lr or train.clip, or raise train.warmup, in a new run; guards.not_finite = "rollback" would
    go back and pass the batch over."""


class Guarded(TrainingStopped):
    """Step {step}: {what}, and the recipe's rule (guards.{rule}) stops the run there: the ledger says so for good.
    Everything recorded is intact. Begin again after an earlier step with other values:
    pellucid fork {path} --step K --set KEY=VALUE --to DIR"""
