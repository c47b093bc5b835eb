"""What the user has to change: exit code 2."""

from __future__ import annotations

from pathlib import Path

from pellucid.errors.base import UserError


class RecipeUnreadable(UserError):
    message = """{path} is not valid TOML: {detail}. Fix the file at that place."""


class RecipeTooNew(UserError):
    message = """{path} declares version {found}, but this pellucid knows only versions up
    to {known}. Upgrade pellucid, or install the release that made the recipe
    (record/environment.lock names it)."""


class RecipeTooOld(UserError):
    message = """{path} declares version {found}. Versions before {known} predate the frozen
    format 1. Make the run again with version = {known}."""


class RecipeUnknownKey(UserError):
    message = """{path}: unknown key {key}{hint}. Remove the key or correct its name."""


class RecipeInvalid(UserError):
    message = """{path}: {key}: {detail}. Correct it there{setting}."""

    optional = ("setting",)


class RecipeChanged(UserError):
    message = """{path} now has the digest {found}, but the run in this folder began with
    {recorded} ({detail}). The recipe of a run never changes. Restore the old value, or use
    the new value in a fork: pellucid fork {run} --step K --set KEY=VALUE --to DIR"""


class SettingTooLate(UserError):
    message = """{settings} would change the bits of {run}, which has begun. The recipe is
    unchanged. Use the setting in a fork: pellucid fork {run} --step K --set {settings} --to
    DIR"""


class CommandInvalid(UserError):
    message = """{word}: {detail}. Run `pellucid {verb} --help` to see its arguments."""


class RunMissing(UserError):
    message = """{path} is not a run: it has no recipe.toml. {fix}"""

    def __init__(self, path: Path | str, verb: str = "", **_: object) -> None:
        """verb: the one that was given, where no run was."""
        super().__init__(path=path, verb=verb, fix=_fix(path, verb))


def _fix(path: Path | str, verb: str) -> str:
    if any((Path(path) / name).is_file() for name in ("pellucid.json", "anchor.json")):
        return "That folder is an exported model: name its run, or the release of its run."
    if verb:
        return f"Name the run: pellucid {verb} RUN"
    if (Path(path).is_dir() or Path(path).is_file()) and Path(path) != Path():
        return (
            f"Name the folder of a run, or train on these texts: pellucid new mymodel --data {path}"
        )
    return f"Correct the name, or make a run: pellucid new {path} --data PATH"


class RunTwice(UserError):
    message = """{path} is there twice. Name each run once: pellucid {verb} A B"""


class FolderTaken(UserError):
    message = """{path} already holds {found}. Choose a new or empty folder{fix}."""

    optional = ("fix",)


class ReportInside(UserError):
    message = """{path} lies in the run {run}, where `verify` allows only files of the run.
    Write the report outside of it: --to ../{name}"""


class SiteTaken(UserError):
    message = """{path} {detail}, and `publish` writes the pages of the run in its place. Move what
    you need out of the run first: mv {path} DIR"""


class FileTaken(UserError):
    message = """Cannot write {path}: {detail}. Choose a new file outside a run's own folders."""


class PageInvalid(UserError):
    message = """{path}: {detail}. {fix}. See docs/site.md, "Pages of your own"."""


class PublisherInvalid(UserError):
    message = """{path}: {key}: {detail}. Correct it there: docs/publish.md lists what it may
    hold."""


class FolderUnfit(UserError):
    message = """Cannot make {path}: {detail}. Choose another folder."""


class LinkInside(UserError):
    message = """{path} is a symbolic link, and a run may not contain links. Put the files
    in its place: rm {path} && mv {target} {path}. To keep a run on another disk, move the
    whole folder and link to it. To keep only this part there, mount it: mount --bind DIR
    {path}"""


class StepUnknown(UserError):
    message = """{what} is not in this run: {detail}. Run `pellucid status RUN` to see how
    far the run goes."""


class TensorUnknown(UserError):
    message = """No tensor {tensor} in the state after step {step}. Choose from {known}.
    Name a tensor of the optimizer as GROUP/NAME."""


class RowsUnknown(UserError):
    message = """No rows {first}:{last} of the tensor {tensor}: {detail}. Count rows from 0
    and leave the last out, as in --rows 0:16."""


class StateNotKept(UserError):
    message = """{path} keeps no {group} after step {step}. Choose a step with a folder in
    anchors/ or, for the weights, in checkpoints/."""


class DocumentUnknown(UserError):
    message = """No document {document} in this run{near}. List the ids that contain TEXT:
    pellucid show RUN documents TEXT"""

    optional = ("near",)


class DocumentInParts(DocumentUnknown):
    message = """{document} was cut into {count} documents, and {first} is the first. Name that
    part, or another part."""


class BlockUnknown(StepUnknown):
    message = """Block {block} is not in this run, which has {count:,} blocks to train on, counted
    from 0. List the blocks of a step: pellucid show RUN step K"""


class TextEmpty(UserError):
    message = """No loss can be computed for {what}: it has no token to predict. Give a text
    with one or more characters."""


class RequestUnfit(UserError):
    message = """The choice {choice!r} has no token of its own behind a context that ends in
    {context!r}: the tokenizer leaves it out. Change the choice in the task."""


class TokensUnfit(RequestUnfit):
    message = """The model cannot be asked a request of {count:,} token ids: {detail}. Change the
    request in the task."""


class ForeignUnfit(UserError):
    message = """The model of {path} cannot be asked here: {detail}. Leave out --foreign, or give it
    a folder with config.json, safetensors and tokenizer.json of a family in docs/families.md."""


class EvaluationsMissing(UserError):
    message = """{path} keeps no evaluation of its steps, so no answer can be computed again. To
    make some, remove manifest.jsonl of a release, and run: pellucid evaluate {path}"""


class TextInvalid(UserError):
    message = """The text is not Unicode: {detail}. Give it in UTF-8, for example from a
    terminal with a UTF-8 locale."""


class PlotMissing(UserError):
    message = """A picture needs matplotlib, which is not installed. Install it: pip install
    "pellucid[plot]". Or draw in the terminal with --plot -"""


class TensorboardMissing(UserError):
    message = """Events for TensorBoard need its package, which is not installed. Install it: pip
    install "pellucid[tensorboard]". Or write CSV files: --as csv"""


class HarnessMissing(UserError):
    message = """Tasks of lm-eval need its package, which is not installed. Install it: pip
    install "pellucid[evaluate]". Or choose tasks that are built in."""


class TaskUnknown(UserError):
    message = """No task is named {task}{near}. Choose a task that is built in, a name of lm-eval,
    or the path of a YAML file."""

    optional = ("near",)


class TaskInvalid(UserError):
    message = """lm-eval cannot prepare or rate the task {task}: {detail}. Correct the task's YAML
    file, or leave the task out."""


class RightChoiceMissing(UserError):
    message = """{missing} of {count} documents of the task {task} have no right choice. Every
    answer to them would count as wrong. The first is document {first}, where {field} gives {right}.
    That is neither the text of a choice nor a number from 0 to {last}{why}. Correct {field} in the
    task's YAML file, or correct the data."""

    optional = ("why",)


class TaskDataInvalid(UserError):
    message = """The data of the task {task} cannot be read: {detail}. Correct the data, or leave
    the task out."""


class TaskUnfit(UserError):
    message = """The task {task} cannot be asked: {detail}. Leave it out, or change a copy of its
    YAML file."""


class TaskNameTaken(UserError):
    message = """{path} names its task {task}, and a built-in task has this name. Give the task
    another name in a copy of its YAML file, or ask the built-in one: --tasks {task}"""


class TaskDataMissing(UserError):
    message = """The data of these tasks is not on this machine: {tasks}. No model was asked. Run
    the command once with a network{without}, which fetches the data."""

    optional = ("without",)


class AnswerNotFinite(UserError):
    message = """Task {task}, document {document}: {what} is {value}, which no rating may count.
    Choose a step whose weights are finite: pellucid show RUN"""


class StageUnknown(UserError):
    message = """No stage is called {stage}. Choose from: {known}."""


class StageNotReady(UserError):
    message = """{path} has no {needs} yet, but {stage} needs it. Make everything that is
    missing: pellucid run {path}"""


class IndexMissing(UserError):
    message = """{path} has no index of its texts. Make the index: pellucid run {path}
    --only index"""


class QueryEmpty(UserError):
    message = """No text to look for. Write the text after the run, or name its file: --file
    PATH"""


class NotTrained(UserError):
    message = """{path} has no step yet: {detail}. Train it: pellucid run {path}"""


class NotFinished(UserError):
    message = """{path} is at step {step} of {steps}, and only a finished run can be sealed.
    Finish it: pellucid run {path}"""


class BudgetTooSmall(UserError):
    message = """A budget of {budget} is too small: {besides} and step {step}, the seed's first,
    need {needed} s. Give --budget {needed}s or more. Or choose a step right after an anchor
    with --step."""


class MicrobatchUnknown(UserError):
    message = """Step {step} has no microbatch {index}: it has {count}, counted from 0.
    Choose a smaller number, or --microbatch random."""


class MicrobatchUncommitted(UserError):
    message = """The recipe of {path} has record.commitment = "{found}", so the ledger binds
    no gradient of a microbatch. Audit the whole step: pellucid audit {path} --step {step}.
    In a new run, commit to microbatches with --set record.commitment=microbatches"""


class ReleaseSealed(UserError):
    message = """{path} is sealed: its manifest lists every file, and this would change some
    of them. Check that all files are intact: pellucid verify {path}. To change it anyway,
    remove {path}/manifest.jsonl, make the change, and seal it again: pellucid publish
    {path}"""


class QueryInvalid(UserError):
    message = """This run cannot answer the query: {detail}. List the views and their
    columns: pellucid sql RUN"""


class QueryStopped(UserError):
    message = """No answer within {seconds} s. Ask for less (fewer steps, no text), or give
    more time with --seconds."""


class QueryTooLarge(UserError):
    message = """The answer has more than {most} bytes. Ask for fewer steps or columns, or add
    LIMIT to the query.{others}"""

    optional = ("others",)


class UrlInvalid(UserError):
    message = """{url} is not the address of a release: {detail}. Give the folder of
    manifest.jsonl, as https://host/folder or s3://bucket/folder."""


class ReleaseMissing(UserError):
    message = """{url} is not a sealed release: it has no manifest.jsonl. Correct the
    address, or seal the run: pellucid publish RUN"""


class FolderNeeded(UserError):
    message = """{what} needs a folder, and {url} is an address. Bring the release here, and
    give its folder: pellucid download {url} DIR.{others}"""

    optional = ("others",)


class DriverMissing(UserError):
    message = """Reading {scheme}:// needs a driver of fsspec that is not installed:
    {detail}. Install it (for s3: pip install s3fs; for gs: pip install gcsfs; for az: pip
    install adlfs)."""


class PartUnknown(UserError):
    message = """{url} has no file or folder {name}, but {known}. Give --only one of these, or
    a file or folder in them."""


class PlaceTaken(UserError):
    message = """{url} already holds {found}. Choose an empty address, or remove what is there:
    a release is never written over another."""


class TorchMissing(UserError):
    message = """This verb needs torch, which is not installed. Install it: pip install
    torch. These verbs work without it: {verbs}."""


class TooMuchMemory(UserError):
    message = """Reading this release takes more memory than a reading verb may use (see
    docs/threats.md). An honest release never needs that much. Do not trust this release."""


class DeviceMissing(UserError):
    message = """The recipe asks for the device {device}, but torch has no {device} on this
    machine. Set placement.device = "cpu", or run on a machine that has it."""


class OperationsMissing(UserError):
    message = """Pellucid has no {arithmetic} arithmetic for the device {device}. Set
    train.arithmetic and placement.device to one of these pairs: {known}."""


class ForkUnfit(UserError):
    message = """A fork cannot change {key}: {detail}. Make a new run for that: pellucid new
    DIR --data PATH"""
