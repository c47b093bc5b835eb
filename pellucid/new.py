"""New runs: a commented recipe from a preset, the sources named, and a look at what they hold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import tomlkit

from pellucid.data import sources
from pellucid.data.guess import Guess, clean, guess
from pellucid.data.notes import notes_of
from pellucid.data.stage import Progress, silent
from pellucid.data.survey import Surveyed, survey
from pellucid.errors import CommandInvalid, FolderTaken
from pellucid.recipe import COMMAND_LINE, FILE, MAX_BYTES, Recipe, parse
from pellucid.settings import settings_of, with_settings
from pellucid.store import files


class Preset(NamedTuple):
    """A model's shape and a schedule that suits it; the name is its size
    at the preset's vocabulary."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    mlp_width: int
    vocabulary: int
    context: int
    batch: int
    microbatch: int
    steps: int
    lr: float


class Fitted(NamedTuple):
    """What of a recipe follows from its settings and its data."""

    steps: int
    warmup: int
    validation_every: int
    anchors_every: int
    context: int
    batch: int
    microbatch: int
    validation_per_10000: int
    max_document_characters: int
    split: str


PRESETS = {
    "1M": Preset(4, 128, 4, 4, 352, 2048, 256, 16, 16, 600, 4e-3),
    "3M": Preset(6, 192, 6, 6, 512, 4096, 256, 16, 16, 600, 3e-3),
    "10M": Preset(8, 256, 4, 4, 704, 8192, 512, 16, 8, 2000, 2e-3),
    "30M": Preset(8, 512, 8, 8, 1408, 8192, 512, 32, 8, 5000, 1e-3),
    "100M": Preset(12, 768, 12, 12, 2048, 32768, 1024, 128, 8, 20000, 6e-4),
    "300M": Preset(24, 1024, 16, 8, 2816, 32768, 2048, 256, 8, 40000, 4e-4),
    "1B": Preset(20, 2048, 16, 8, 5632, 50304, 2048, 512, 8, 100000, 3e-4),
}
_SHARES = (100, 200, 300, 500, 1000, 2000, 3000, 5000)  # Of validation, in 10000.
_PARTS = (
    50,
    100,
    200,
    500,
    1000,
)  # Into how many all texts are cut where they are few, tried in this order.
_HELD = 0.005, 0.05  # Of the bytes that are for validation: the least and the most looked for.
_MOST_HELD = 0.2  # Where nothing is between these.
_LEAST_CHARACTERS = 200  # Of such a part.
_LEAST_CONTEXT, _LEAST_BATCH = 32, 1
# More than a tokenizer trained here gives, so that there are as many blocks as counted on.
_BYTES_PER_TOKEN = 5


def new(
    folder: Path, data: list[str], preset: str, settings: list[str], progress: Progress = silent
) -> list[str]:
    """Make a run folder with a recipe that fits its data; returns what was fitted, in words.

    Raises FolderTaken, FolderUnfit, CommandInvalid, and what guess,
    sources.check and a recipe raise."""
    if preset not in PRESETS:
        raise CommandInvalid(
            verb="new", word=preset, detail=f"the presets are {', '.join(PRESETS)}"
        )
    _require_free(folder)
    found, asked = sources_of(data), settings_of(settings, "new")
    fitted = first_fit(PRESETS[preset], asked, all(one.format == "fasta" for one in found))
    draft = _Draft(folder, found, PRESETS[preset], settings, progress)
    sources.check(draft.recipe(fitted), folder, COMMAND_LINE)
    fitted, notes = _fit(draft, fitted, set(asked))
    notes += notes_of(found, draft.recipe(fitted), folder)
    content = draft.content(fitted)
    if not folder.is_dir():
        files.make_folder(folder)
    if (folder / FILE).exists() and files.read_bytes(folder / FILE, MAX_BYTES) != content:
        raise _taken_by_a_run(folder)
    files.write_bytes(folder / FILE, content)
    return notes


def _require_free(folder: Path) -> None:
    """Raises FolderTaken where the folder holds more than this command
    leaves there, killed or not."""
    if not folder.is_dir():
        files.require_free(folder)
        return
    names = {path.name for path in folder.iterdir()}
    if names <= {FILE, files.TEMPORARY + FILE}:
        return
    if FILE in names:
        raise _taken_by_a_run(folder)
    files.require_free(folder)


def _taken_by_a_run(folder: Path) -> FolderTaken:
    return FolderTaken(
        path=folder, found="a run", fix=f", or continue that run with: pellucid run {folder}"
    )


class _Draft(NamedTuple):
    folder: Path
    found: list[Guess]
    preset: Preset
    settings: list[str]
    progress: Progress

    def content(self, fitted: Fitted) -> bytes:
        text = recipe_text(self.folder, self.found, self.preset, fitted)
        return with_settings(text.encode(), self.settings, self.folder / FILE, "new")

    def recipe(self, fitted: Fitted) -> Recipe:
        return parse(self.content(fitted), self.folder / FILE)


def sources_of(data: list[str]) -> list[Guess]:
    """The sources that the words mean, each under a name of its own."""
    guesses: list[Guess] = []
    for guessed in (guessed for word in data for guessed in guess(word)):
        taken, name, number = {other.name for other in guesses}, guessed.name, 1
        while name in taken:
            number += 1
            name = f"{guessed.name}-{number}"
        guesses.append(guessed._replace(name=name))
    return guesses


def first_fit(preset: Preset, asked: dict[str, Any], sequences: bool) -> Fitted:
    """What follows from the settings alone; a recipe says what is wrong with
    a setting that is no number."""

    def number(key: str, default: int) -> int:
        value = asked.get(key, default)
        return value if type(value) is int and value > 0 else default

    steps, batch = number("train.steps", preset.steps), number("train.batch", preset.batch)
    decay = number("train.decay", 0) if "train.decay" in asked else 0
    return Fitted(
        steps=steps,
        warmup=max(0, min(steps // 10, steps - decay)),
        validation_every=max(1, steps // 4),
        anchors_every=max(1, steps // 8),
        context=number("model.context", preset.context),
        batch=batch,
        microbatch=_divisor(batch, number("train.microbatch", preset.microbatch)),
        validation_per_10000=100,
        # Records of DNA and protein: documents small enough to be split.
        max_document_characters=8192 if sequences else 1_000_000,
        split="texts",
    )


def _divisor(number: int, most: int) -> int:
    """The greatest divisor up to a bound, looked for among the numbers below 2^16."""
    least = min(number, most)
    return next(
        divisor for divisor in [least, *range(min(least, 1 << 16), 0, -1)] if number % divisor == 0
    )


def _fit(draft: _Draft, fitted: Fitted, asked: set[str]) -> tuple[Fitted, list[str]]:
    """Fit the split, then batch and context, to what the sources hold;
    what somebody asked for stays."""
    first = draft.recipe(fitted).data
    wanted = first.validation_per_10000 if "data.validation_per_10000" in asked else 0
    best: _Trial | None = None
    for trial in _trials(draft, fitted, asked, wanted):
        if best is None or trial.distance < best.distance:
            best = trial
        if not best.distance:
            break
    if best is None:
        return fitted, ["these texts are too few for a validation set: add text"]
    fitted, notes = best.fitted, []
    if fitted.split != first.split:
        notes.append(
            "data.split = parts: too few whole texts for validation, so parts of texts are kept"
        )
    if (longest := fitted.max_document_characters) != first.max_document_characters:
        notes.append(
            f"data.max_document_characters = {longest}: too few texts for a validation set, "
            "so texts are cut"
        )
    notes += _told(best)
    return _fit_batch(draft, fitted, best.found, asked, notes)


class _Trial(NamedTuple):
    """A way to split the texts."""

    fitted: Fitted
    found: list[Surveyed]
    held: float  # The part of the bytes that is for validation.
    distance: float  # Of that part from those wanted; 0 where it is one.


def _trials(draft: _Draft, fitted: Fitted, asked: set[str], wanted: int) -> Iterator[_Trial]:
    """The ways that keep something of all, not too much, and leave each source something to train
    on: whole texts, then parts as long as the preset's, then ever shorter ones."""
    first = draft.recipe(fitted).data
    ways = [(first.max_document_characters, first.split)]
    if "data.split" not in asked and first.split == "texts":
        ways.append((first.max_document_characters, "parts"))
    low, high = (wanted / 20_000, wanted / 5_000) if wanted else _HELD
    while ways:
        longest, split = ways.pop(0)
        tried = fitted._replace(max_document_characters=longest, split=split)
        found = survey(draft.recipe(tried), draft.folder, draft.progress)
        if (
            not ways
            and longest == first.max_document_characters
            and "data.max_document_characters" not in asked
        ):
            lengths = (sum(one.characters for one in found) // parts for parts in _PARTS)
            ways = [
                (length, split)
                for length in sorted({max(_LEAST_CHARACTERS, one) for one in lengths})[::-1]
            ]
            ways = [way for way in ways if way[0] < longest]
        if split == "texts" and any(not one.whole and one.largest > high for one in found):
            continue  # What was not looked at may be one long text.
        for share in (wanted,) if wanted else _SHARES:
            held = _held(found, share)
            if 0 < held <= max(_MOST_HELD, high) and all(one.split(share)[0] for one in found):
                yield _Trial(
                    tried._replace(validation_per_10000=share),
                    found,
                    held,
                    max(0, low - held, held - high),
                )


def _held(surveyed: list[Surveyed], share: int) -> float:
    train, held = (
        sum(sizes) for sizes in zip(*(source.split(share) for source in surveyed), strict=True)
    )
    return held / max(1, train + held)


def _told(trial: _Trial) -> list[str]:
    """What is kept for validation, in words."""
    share, about = (
        trial.fitted.validation_per_10000,
        "" if all(source.whole for source in trial.found) else "about ",
    )
    notes = [
        f"{about}{100 * trial.held:.2g}% of the text is kept for validation "
        f"(data.validation_per_10000 = {share})"
    ]
    none = (
        [source.name for source in trial.found if not source.split(share)[1]]
        if len(trial.found) > 1
        else []
    )
    if none:
        notes.append(
            f"no text of {', '.join(none)} is kept for validation: too few texts for a loss "
            "of its own"
        )
    return notes


def _fit_batch(
    draft: _Draft, fitted: Fitted, found: list[Surveyed], asked: set[str], notes: list[str]
) -> tuple[Fitted, list[str]]:
    """Smaller batches, then shorter rows, until there are enough of them for a step."""
    first = fitted
    while not _enough(draft.recipe(fitted), found):
        if fitted.batch > 4 and "train.batch" not in asked:
            fitted = fitted._replace(batch=fitted.batch // 2)
        elif fitted.context > _LEAST_CONTEXT and "model.context" not in asked:
            fitted = fitted._replace(context=fitted.context // 2)
        elif fitted.batch > _LEAST_BATCH and "train.batch" not in asked:
            fitted = fitted._replace(batch=fitted.batch // 2)
        else:
            return _too_few(draft, first, fitted, found, asked, notes)
        fitted = fitted._replace(microbatch=_divisor(fitted.batch, fitted.microbatch))
    if fitted != first:
        notes.append(
            f"train.batch = {fitted.batch} and model.context = {fitted.context}: "
            f"too little text for batches of {first.batch} rows of {first.context} tokens"
        )
    return fitted, notes


def _too_few(
    draft: _Draft,
    first: Fitted,
    least: Fitted,
    found: list[Surveyed],
    asked: set[str],
    notes: list[str],
) -> tuple[Fitted, list[str]]:
    """Texts that do not fill a batch. Where a setting is the reason, the rest stays as it was: it
    is that setting which has to change."""
    given = [name for name in ("train.batch", "model.context") if name in asked]
    if not given:
        return least, [*notes, "these texts are too short for one step: add text"]
    rows = _rows(draft.recipe(first), found)
    sized = f"{first.batch:,} rows of {first.context:,} tokens"
    return first, [
        *notes,
        f"a step of {sized} is larger than these texts, which give about {rows:,} rows: "
        f"add text, or lower {' or '.join(given)}",
    ]


def _enough(recipe: Recipe, surveyed: list[Surveyed]) -> bool:
    """Whether each source surely has a block, and all of them a batch. There is more than was
    looked at of some, which is enough for any batch of a preset."""
    own = [_rows(recipe, [source]) for source in surveyed]
    for rows, source in zip(own, surveyed, strict=True):
        if not source.whole:
            return True
        if not rows:
            return False
    return sum(own) >= recipe.train.batch


def _rows(recipe: Recipe, surveyed: list[Surveyed]) -> int:
    """The rows that the texts surely give, of all that was looked at."""
    size = 1 if recipe.tokenizer.kind in ("bytes", "characters") else _BYTES_PER_TOKEN
    share, context = recipe.data.validation_per_10000, recipe.model.context
    return sum(max(0, source.split(share)[0] // size - 1) // context for source in surveyed)


def recipe_text(folder: Path, found: list[Guess], preset: Preset, fitted: Fitted) -> str:
    """The commented recipe, before any setting."""
    return _TEMPLATE.format(
        name=clean(folder.resolve().name),
        sources="\n".join(_source(one) for one in found),
        # Records of DNA and protein: a token a letter.
        tokenizer_kind="characters" if all(one.format == "fasta" for one in found) else "bpe",
        **preset._asdict() | fitted._asdict(),
    )


def _source(source: Guess) -> str:
    path = source.path if source.format == "package" else str(Path(source.path).resolve())
    key = f"text_key = {_string(source.text_key)}    # The key or column of a record's text."
    lines = [
        "[[data.sources]]",
        f"name = {_string(source.name)}",
        f"format = {_string(source.format)}             # text, jsonl, json, csv, parquet, "
        "lines, fasta or package",
        f"path = {_string(path)}",
        *([key] if source.text_key else []),
        'licence = "unknown"          # Licence of the texts; a package names its own.',
        "weight = 1                   # How often it is seen while sources of weight 1 are "
        "seen once.",
        "",
    ]
    return "\n".join(lines)


def _string(text: str) -> str:
    return tomlkit.string(text).as_string()


_TEMPLATE = """\
# Everything that can change the bits of this run. Paths and [placement] are not part of its digest.
# Change a field here, or with: pellucid run --set train.lr=1e-3
version = 4
name = "{name}"
seed = 1                     # Decides the initial weights, the order and the salts.

[data]
pipeline = 2                 # How sources become documents: docs/format.md, section 5.
validation_per_10000 = {validation_per_10000}   # Documents for validation, chosen by their hash.
max_document_characters = {max_document_characters}   # Longer documents are cut into parts.
split = "{split}"            # texts: a whole text is for training or validation; \
parts: each part on its own.
invalid_utf8 = "replace"     # or "drop": leave out the whole document. Both are counted.
token_type = "uint16"        # "uint32" for a vocabulary over 65536.
salts = "seed"               # "random": drawn and stored, so that a text can be withdrawn later.
# root = "…"                 # Pins the data: pellucid refuses other texts.

{sources}
[tokenizer]
kind = "{tokenizer_kind}"    # bpe (trained on the data), bytes, characters, \
or file (with path = "tokenizer.json").
vocabulary = {vocabulary}
pattern = "llama3"           # How texts are split: llama3, qwen2, gpt2, o200k \
or pellucid (docs/data.md).
max_pretoken = 24            # The longest token, in characters.

[model]
family = "llama"             # The kind of model: docs/families.md.
layers = {layers}
width = {width}
heads = {heads}
kv_heads = {kv_heads}
mlp_width = {mlp_width}
context = {context}          # Tokens of a row.
tied = true                  # Input and output embeddings are one matrix.
attention = "across"         # "within": a token attends only to its own document.

[train]
arithmetic = "portable"      # The same bits on every CPU; "native": PyTorch's, for GPUs and bf16.
precision = "fp32"           # "bf16" on CUDA, with native arithmetic.
steps = {steps}
batch = {batch}              # Rows a step.
microbatch = {microbatch}    # Rows a forward and backward pass.
lr = {lr}
schedule = "cosine"          # cosine, linear, or wsd (warmup, stable, decay = steps of decay).
warmup = {warmup}
final_lr = 0.1               # As a fraction of lr.
clip = 1.0                   # The largest norm of the gradients.

[optimizer]
kind = "adamw"               # adamw, or muon: orthogonalised momentum for matrices.
beta1 = 0.9
beta2 = 0.95
weight_decay = 0.1           # For matrices only.

[objective]
z_loss = 0.0                 # Weight of each squared log-sum-exp, added to the loss.

[validation]
every = {validation_every}
tokens = 32768               # For each source: whole documents, up to this many or a few more.

[checkpoints]
every = {validation_every}

[record]
commitment = "steps"         # "microbatches": hash the gradient of every microbatch too.

[guards]                     # Spikes in the recorded losses, and what to do; \
both are in the ledger.
loss = {{ action = "note" }}   # note, stop, or rollback: go `back` steps and skip their batches.
not_finite = "stop"          # or "rollback"
back = 50

[placement]
threads = 0                  # 0: one a core.
device = "cpu"
anchors = {{ every = {anchors_every}, powers_of_two = true }}   # Which full states are stored.
trace = true                 # The index for `where` and `trace`: four bytes a token.
"""
