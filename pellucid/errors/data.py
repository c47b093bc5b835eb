"""What is wrong with data, or with a release as it is read: exit code 4."""

from __future__ import annotations

from pellucid.errors.base import DataError


class SourceMissing(DataError):
    message = """Source {source}: {path} does not exist. Correct the path, in recipe.toml or behind
    --data."""


class SourceEmpty(DataError):
    message = """Source {source}: {path} gave no document ({dropped}). Check the path, the format
    ({format}) and the include patterns.{there}"""

    optional = ("there",)


class FormatForeign(DataError):
    message = """Source {source}: {path} is {what}, which is not read as it is. {fix}"""


class TextKeyMissing(DataError):
    message = """Source {source}: {path}: none of the first {records} records has a text under
    "{key}"{near}. {there} {fix}"""


class FieldMissing(DataError):
    message = """Source {source}: {path}: none of the first {records} records has the field
    "{key}"{near}, which {setting} names. Fields that are there: {found}. Name one: --set
    data.sources.{source}.{setting}={name}, or none: --set data.sources.{source}.{setting}="""


class NamesUnclear(DataError):
    message = """Source {source}: it has the files {path} and {other}, and a record of either can
    have the id {other}:NAME. Rename one of them, or leave one out: --set
    'data.sources.{source}.exclude=["{other}"]'"""


class RunInsideData(DataError):
    message = """Source {source}: {path} and the run in {folder} lie in each other, so the run would
    read what it writes. Make the run elsewhere, or name the texts' own folder."""


class SourceUnreadable(DataError):
    message = """Source {source}: {path}: {detail}. Fix or remove that file, or correct the
    format."""


class PackageMissing(DataError):
    message = """Source {source}: the Python package {package} is not installed. Install it with:
    pip install {package}"""


class PackageDiffers(DataError):
    message = """Source {source}: {path} of the package {package} {detail}. Reinstall it with: pip
    install --force-reinstall --no-deps {package}"""


class DataDiffers(DataError):
    message = """The recipe (data.root), or the ledger of a run that has begun, pins the data root
    {pinned}, but these sources give {found}. The texts differ from those it was written for: get
    the original texts, or remove data.root and begin a new run."""


class CorpusTooSmall(DataError):
    message = """The corpus gives {found} {what}, and the recipe needs at least {needed}: {fix}"""


class NoValidation(DataError):
    message = """None of the {documents} documents falls into the validation split of {share} in
    10000. Raise data.validation_per_10000, or lower data.max_document_characters so that documents
    are smaller."""


class TokenizerInvalid(DataError):
    message = """{path}: not a usable tokenizer: {detail}. Name a tokenizer.json made by the
    tokenizers library, of the parts that docs/format.md lists."""


class PatternReplaced(DataError):
    message = """{path}: nothing was exported. In a model of type {model_type} AutoTokenizer replaces the
    pattern that splits texts, whatever tokenizer.json says, and gives other ids than the run was trained
    on. Export the state instead (--as state)."""


class DocumentTokenUnclear(DataError):
    message = """{path}: nothing in it says which token begins a document. Name one of {candidates}:
    --set 'tokenizer.document_token={first}'"""


class VocabularyTooLarge(DataError):
    message = """The vocabulary has {vocabulary} tokens, and a {token_type} shard holds ids below
    {limit}. Set data.token_type = "uint32"."""


class WeightsMissing(DataError):
    message = """Step {step}: none of its targets has a weight, so there is nothing to minimise.
    Give some of them a weight, or leave these rows out."""


class GroupCut(DataError):
    message = """Step {step}: rows that are trained on together, such as a pair of answers, lie in
    two microbatches. Set train.microbatch (it is {microbatch}) to a multiple of such a group."""


class ShardDamaged(DataError):
    message = """{path} is {found} bytes long and its manifest says {expected}. Delete data/shards
    and run again, or fetch the release anew."""


class FormatInvalid(DataError):
    message = """{path}: {detail}. The file is damaged or was not written by pellucid; `pellucid
    verify` tells which files are intact."""


class FileMissing(FormatInvalid):
    message = """{path} is not there, and what was asked for needs it. The run is incomplete: fetch
    it anew, or take the file from another copy."""


class FormatTooNew(DataError):
    message = """{path} has format version {found}; this pellucid reads up to {known}. Upgrade
    pellucid."""


class AnswerInvalid(DataError):
    message = """The server of {url} {detail}. Nothing of that answer was used: try again, or take
    the release from another place."""


class RemoteChanged(DataError):
    message = """{url} is not what the release's manifest describes, or changed while it was read:
    {detail}. Read it again; if it stays so, take the release from another place."""


class RemoteDiffers(DataError):
    message = """{url} has the SHA-256 {found}, and the release's manifest says {expected}. It is
    damaged or was replaced: do not trust it, and take the release from another place."""


class PathUnsafe(DataError):
    message = """{path} names the path {entry!r}, which is {detail}. A release may only name files
    inside its own folder; do not trust this one."""
