"""What the user has to change: exit code 2."""

from __future__ import annotations

from pathlib import Path

from pellucid.errors.base import UserError


class RecipeUnreadable(UserError):
    message = """{path} is not valid TOML: {detail}. Fix the file at that place."""


class RecipeTooNew(UserError):
    message = """{path} declares version {found}; this pellucid knows versions up to {known}.
    Upgrade pellucid, or take the release that made the recipe (record/environment.lock names
    it)."""


class RecipeTooOld(UserError):
    message = """{path} declares version {found}. Runs of versions before {known} were made before
    format 1 was frozen; make the run again with version = {known}."""


class RecipeUnknownKey(UserError):
    message = """{path}: unknown key {key}{hint}. Remove it or correct its name."""


class RecipeInvalid(UserError):
    message = """{path}: {key}: {detail}. Correct it there{setting}."""

    optional = ("setting",)


class RecipeChanged(UserError):
    message = """{path} now has the digest {found}, but the run in this folder was begun with
    {recorded} ({detail}). A run keeps its recipe: put the old value back, or let another run go on
    from one of its steps with the new one: pellucid fork {run} --step K --set KEY=VALUE --to DIR"""


class SettingTooLate(UserError):
    message = """{settings} would change the bits of {run}, which has begun; nothing was changed.
    Another run can go on from one of its steps with it:
    pellucid fork {run} --step K --set {settings} --to DIR"""


class CommandInvalid(UserError):
    message = """{word}: {detail}. `pellucid {verb} --help` shows the ways to write it."""


class RunMissing(UserError):
    message = """{path} is not a run: it has no recipe.toml. {advice}"""

    def __init__(self, path: Path | str, verb: str = "", **_: object) -> None:
        """verb: the one that was given, where no run was."""
        super().__init__(path=path, verb=verb, advice=_first_command(path, verb))


def _first_command(path: Path | str, verb: str) -> str:
    if any((Path(path) / name).is_file() for name in ("pellucid.json", "anchor.json")):
        return (
            "It is an exported model, not a run: name the run that it is of, or that run's release."
        )
    if verb:
        return f"Name the run: pellucid {verb} RUN"
    if Path(path).exists() and Path(path) != Path():
        return f"Name the folder of one, or train on it: pellucid new mymodel --data {path}"
    return f"Correct the name, or make one with: pellucid new {path} --data PATH"


class FolderTaken(UserError):
    message = """{path} already holds {found}. Choose a new or empty folder{advice}."""

    optional = ("advice",)


class FolderUnfit(UserError):
    message = """{path} cannot be made: {detail}. Name another folder."""


class LinkInside(UserError):
    message = """{path} is a symbolic link, and nothing inside a run may be one: what is written or
    removed there would be at its other end. Put the files in its place: rm {path} && mv {target}
    {path}. To keep a run on another disk, move the whole folder and make a link to it; to keep a
    part there, mount it: mount --bind DIR {path}"""


class StepUnknown(UserError):
    message = """{what} is not in this run: {detail}. `pellucid status RUN` tells how far it
    goes."""


class TensorUnknown(UserError):
    message = """No tensor {tensor} in the state after step {step}. There are {known}; one of the
    optimizer is named as GROUP/NAME."""


class RowsUnknown(UserError):
    message = """No rows {first}:{last} of the tensor {tensor}: {detail}. Rows are counted from 0, and
    the last one is left out, as in --rows 0:16."""


class StateNotKept(UserError):
    message = """{path} keeps no {group} after step {step}. Take a step that has a folder in anchors/
    or, for the weights, in checkpoints/."""


class DocumentUnknown(UserError):
    message = """No document {document} in this run{near}. `pellucid show RUN documents TEXT` lists
    those that have TEXT in their ids."""

    optional = ("near",)


class TextEmpty(UserError):
    message = """There is nothing to lose in {what}: it has no token that the model would have to
    guess. Give a text with at least one character."""


class TextInvalid(UserError):
    message = """The text is not Unicode: {detail}. Give it in UTF-8, as a terminal with a UTF-8
    locale does."""


class PlotMissing(UserError):
    message = """A picture needs matplotlib, which is not installed. Install it with: pip install
    "pellucid[plot]" (or draw in the terminal with --plot -)"""


class StageUnknown(UserError):
    message = """There is no stage {stage}. The stages are: {known}."""


class StageNotReady(UserError):
    message = """{path} has no {needs} yet, and {stage} needs it. Make all that is missing with:
    pellucid run {path}"""


class IndexMissing(UserError):
    message = """{path} has no index of its texts. Make one with: pellucid run {path} --only
    index"""


class QueryEmpty(UserError):
    message = """There is no text to look for. Write it behind the run, or name a file that holds
    it: --file PATH"""


class NotTrained(UserError):
    message = """{path} has no step yet: {detail}. Train it with: pellucid run {path}"""


class NotFinished(UserError):
    message = """{path} stands at step {step} of {steps}; only a finished run can be sealed. Finish
    it with: pellucid run {path}"""


class BudgetTooSmall(UserError):
    message = """A budget of {budget} is too little: the first step that the seed chooses, step
    {step}, needs {needed} s here. Give --budget {needed}s or more, or audit a step right behind an
    anchor with --step."""


class MicrobatchUnknown(UserError):
    message = """Step {step} has no microbatch {index}: there are {count}, counted from 0. Take one
    of them, or --microbatch random."""


class MicrobatchUncommitted(UserError):
    message = """The recipe of {path} has record.commitment = "{found}", so its ledger binds no
    microbatch's gradient, and one alone cannot be proven. Audit the whole step: pellucid audit
    {path} --step {step}; a new run commits to them with --set record.commitment=microbatches"""


class ReleaseSealed(UserError):
    message = """{path} is sealed: its manifest lists every file, and this would change some of them.
    Whether all is there and whole says: pellucid verify {path}. To change it all the same, remove
    {path}/manifest.jsonl, make the change, and seal it again with: pellucid publish {path}"""


class QueryInvalid(UserError):
    message = """Not a question that this run answers: {detail}. `pellucid sql RUN` alone lists the
    views and their columns."""


class QueryStopped(UserError):
    message = """No answer within {seconds} s. Ask for less (fewer steps, no text), or give
    --seconds more."""


class QueryTooLarge(UserError):
    message = """The answer has more than {most} bytes. Ask for less (fewer steps or columns,
    LIMIT), or for a part at a time."""


class UrlInvalid(UserError):
    message = """{url} is not the address of a release: {detail}. Give the folder that
    manifest.jsonl lies in, as https://host/folder or s3://bucket/folder."""


class ReleaseMissing(UserError):
    message = """{url} holds no sealed release: there is no manifest.jsonl. Correct the address; a
    run that is not sealed yet is sealed with: pellucid publish RUN"""


class FolderNeeded(UserError):
    message = """This verb reads all of a release, or writes to it, and {url} is an address.
    Download it first, say with wget -r or aws s3 sync, and give its folder. What reads from an
    address: show, status, where, trace, sql, sample and export."""


class DriverMissing(UserError):
    message = """Reading {scheme}:// takes a driver of fsspec that is not installed: {detail}.
    Install it (for s3: pip install s3fs; for gs: pip install gcsfs; for az: pip install adlfs)."""


class TorchMissing(UserError):
    message = """This verb computes and needs torch, which is not installed. Install it with: pip
    install torch (verify, show, status and publish work without it)."""


class TooMuchMemory(UserError):
    message = """Reading this release takes more memory than a verb that only reads may have
    (docs/threats.md says how much). No honest one needs it: do not trust this one."""


class DeviceMissing(UserError):
    message = """The recipe asks for the device {device}, which torch does not find here. Set
    placement.device = "cpu", or run where it exists."""


class OperationsMissing(UserError):
    message = """Nothing computes {arithmetic} arithmetic on the device {device}. There are {known}:
    set train.arithmetic and placement.device to one of these pairs."""


class ForkUnfit(UserError):
    message = """A fork cannot change {key}: {detail}. Make a new run for that: pellucid new DIR
    --data PATH"""
