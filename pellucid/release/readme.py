"""The README of a release: a part between two marks, from the record alone, and
around it whatever its maker writes.

Part and manifest name the version of the template: what was sealed by an earlier one is
checked by that one. So a template that released versions wrote stays as it is, and a
change of it is a new one."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pellucid import huggingface
from pellucid.cards import hub
from pellucid.cards.facts import Facts
from pellucid.cards.markdown import escape, own, reasons
from pellucid.data import stage
from pellucid.data.licences import licences
from pellucid.data.parquet import Documents
from pellucid.data.tokenizer import LOSSY
from pellucid.errors import FormatInvalid, FormatTooNew
from pellucid.forked import NOT_HERE, tokens_in_words
from pellucid.look.status import status
from pellucid.measured import stored
from pellucid.recipe import Recipe
from pellucid.recipe import load as load_recipe
from pellucid.release import evaluated
from pellucid.store import files, layout, tensors

VERSION = 3
_LICENCES = 10  # That the texts' table names: the commonest.
_LEFT_OUT = 20  # Of what a fork goes without: so many names.
FILE = "README.md"
_BEGIN, _END = (
    b"<!-- pellucid: what follows is made from the record -->",
    b"<!-- pellucid: end of the record -->",
)
_MARKED = re.compile(
    rb"((?:.*\n)?)(%b\n.*\n%b)((?:\n.*)?)" % (re.escape(_BEGIN), re.escape(_END)), re.DOTALL
)
_WITHDRAWN = (
    "is of template 1, which could show a part of a task as the whole, and a question that was "
    "asked often as many: publish the run again"
)
_NO_PART = (
    "does not have the two marks around the record's part exactly once, each on a line of its own"
)


def write(folder: Path) -> None:
    """Write the part of README.md that is ours; what its maker wrote
    around it stays, byte for byte.

    Raises FormatInvalid, where there are marks and not the two that there should be, too.
    """
    path = folder / FILE
    if not path.exists():
        # What a model hub reads has to stand first: it is the maker's to change.
        before, after = hub.front(Facts(folder)).encode(), b""
    else:
        content = files.read_bytes(path, files.JSON_BYTES)
        before, part, after = _parts(content)
        if part is None and (_BEGIN in content or _END in content):
            raise FormatInvalid(
                path=path, detail=f"{_NO_PART}: remove all marks, and publish writes them again"
            )
        if part is None:
            before, after = content.rstrip(b"\n") + b"\n\n", b""
    files.write_bytes(path, before + _marked(folder, VERSION) + after)


def check(folder: Path, version: int) -> str:
    """What is wrong with our part of README.md, made by a version of the
    template; empty where nothing is.

    Raises FormatTooNew, FormatInvalid, FileMissing.
    """
    if version not in _TEMPLATES:
        raise FormatTooNew(path=folder / FILE, found=version, known=VERSION)
    if version == 1 and stored.is_there(folder):
        return _WITHDRAWN
    _, part, _ = _parts(files.read_bytes(folder / FILE, files.JSON_BYTES))
    if part is None:
        return _NO_PART
    expected = _marked(folder, version)
    if part == expected:
        return ""
    # Lines end with \\n alone: whatever else a reader breaks at stands in the line that differs.
    pairs = itertools.zip_longest(part.split(b"\n"), expected.split(b"\n"), fillvalue=b"")
    found, line = next(pair for pair in pairs if pair[0] != pair[1])
    return f"says {_said(found)}, but the record gives {_said(line)}"


def _said(line: bytes) -> str:
    return repr(line.decode("utf-8", "backslashreplace")[:100])


def _parts(content: bytes) -> tuple[bytes, bytes | None, bytes]:
    """What stands before our part, the part with its marks, and what stands
    behind it; None where there is none.

    A mark is a line, and nothing else stands in it.
    """
    found = (
        _MARKED.fullmatch(content)
        if (content.count(_BEGIN), content.count(_END)) == (1, 1)
        else None
    )
    return (found[1], found[2], found[3]) if found else (content, None, b"")


def _marked(folder: Path, version: int) -> bytes:
    return _BEGIN + b"\n" + _TEMPLATES[version](folder).encode() + _END


def _first(folder: Path) -> str:
    """The template 1."""
    return _told(folder, evaluated.first(folder), _FILES)


def _second(folder: Path) -> str:
    """The template 2, which tells variants of a task apart."""
    return _told(folder, evaluated.second(folder), _FILES)


def _third(folder: Path) -> str:
    """The template 3, which counts variants of all steps, lists all folders, and has what the
    publisher says of the model."""
    return _told(folder, [*evaluated.third(folder), *_of_publisher(folder)], _ALL_FILES)


def _of_publisher(folder: Path) -> list[str]:
    """No section where nothing is said."""
    model = Facts(folder).said.model
    titles = {
        "intended_use": "Intended use",
        "out_of_scope": "Out of scope",
        "limitations": "Limitations",
        "biases": "Biases",
    }
    lines = [f"- {titles[name]}: {escape(text)}" for name, text in model if text]
    return ["\n".join(["## Said by the publisher, and not checked", "", *lines])] if lines else []


def _told(folder: Path, evaluations: list[str], files: str) -> str:
    recipe, about = load_recipe(folder), status(folder)
    sections = [
        _head(recipe, about, folder),
        _use(recipe),
        _check(recipe, about),
        _sources(recipe, folder),
        _licences(folder),
        _streams(folder),
        _results(about),
        *evaluations,
        files,
    ]
    return "\n".join(section.rstrip("\n") + "\n" for section in sections)


_TEMPLATES: dict[int, Callable[[Path], str]] = {1: _first, 2: _second, 3: _third}


def _head(recipe: Recipe, about: dict[str, Any], folder: Path) -> str:
    weights = tensors.Tensors(folder / "model.safetensors")
    parameters = sum(weights.array(name).size for name in weights.entries)
    last, fork = about["validation"][-1], about["fork"]
    return f"""# {escape(recipe.name)}

A language model of {parameters:,} parameters, trained in the open with Pellucid. {_whole(fork)}

| | |
|---|---|
{_fork(fork)}| steps | {_steps(about)} |
| tokens trained on | {tokens_in_words(int(about["tokens"]), fork)} |
| validation | {last["loss"]:.4f} nats per token, {last["bits_per_byte"]:.4f} bits per byte |
| head of the ledger | `{about["head"]}` |
| digest of the weights | `{about["weights"]}` |
| data root | `{about["data"]}` |
| arithmetic | {recipe.train.arithmetic}, {recipe.train.precision} |
"""


def _whole(fork: dict[str, Any] | None) -> str:
    """What the folder holds all of."""
    if fork:
        return _WHOLE_OF_A_FORK.format(
            not_here=NOT_HERE, before=fork["step"], first=fork["step"] + 1
        )
    return _WHOLE


_WHOLE = """This folder holds
the texts, the tokens and their order, the record of every step, full training states, \
checkpoints and results.
You can check each of these, and replay any step."""
_WHOLE_OF_A_FORK = """This model is a
fork: training began after step {before:,} of another run, and {not_here}. This folder holds
the texts, the tokens and their order, the record of every step from {first:,} on, \
full training states, checkpoints
and results. You can check each of these, and replay any step from {first:,} on."""


def _fork(fork: dict[str, Any] | None) -> str:
    """The rows of the first table that only a fork has."""
    if not fork:
        return ""
    rows = f"| fork of | `{fork['parent']}` after step {fork['step']:,}; {NOT_HERE} |\n"
    if fork["without"]:
        named = ", ".join(map(escape, fork["without"][:_LEFT_OUT]))
        more = len(fork["without"]) - _LEFT_OUT
        rows += f"| trained without | {named}{f' and {more:,} more' if more > 0 else ''} |\n"
    return rows


def _steps(about: dict[str, Any]) -> str:
    if not (fork := about["fork"]):
        return f"{about['steps']:,}"
    own = f"{fork['own_steps']:,} in this release"
    first, last = fork["step"] + 1, fork["step"] + fork["own_steps"]
    return f"{own} ({first:,} to {last:,}), after {fork['step']:,} claimed for the run before"


def _use(recipe: Recipe) -> str:
    within = (
        "\nThe training kept attention within documents; transformers attends across documents.\n"
        if recipe.model.attention == "within"
        else ""
    )
    loader = huggingface.tokenizer_loader(recipe.model)
    return f"""## Load it

```python
from transformers import AutoModelForCausalLM, {loader}

model = AutoModelForCausalLM.from_pretrained(".")  # or "checkpoints/step{recipe.first}", …
tokenizer = {loader}.from_pretrained(".")
```
{within}"""


def _check(recipe: Recipe, about: dict[str, Any]) -> str:
    step = recipe.first + max(1, (about["steps"] - recipe.first) // 2)
    traced = (
        'pellucid where . "some text"         '
        "# which training texts contain it, and which steps saw it\n"
    )
    traced = traced if about["stages"]["index"] else ""
    return f"""## Check it

```
pip install pellucid
pellucid verify .                   # every file, the chain, the data, every batch and \
number; needs no torch
pellucid audit . --step {step}        # replays step {step} from the nearest anchor and \
compares its bits
pellucid show . step {step}           # the texts that step {step} trained on, and their losses
pellucid export . --step {step} --as hf --to DIR
{traced}```

`record/ledger.jsonl` records what the run computed; each entry holds the hash of the entry before.
`record/journal.jsonl` records what happened. `record/code.tar` is the code that ran, and \
`record/environment.lock`
lists its packages. Native arithmetic gives equal bits only on an equal stack: \
the ledger's first entry names it.
"""


def _sources(recipe: Recipe, folder: Path) -> str:
    documents, path = Documents.open(folder).manifest, folder / stage.DOCUMENTS / stage.MANIFEST
    by_record = {one.name for one in recipe.data.sources if one.licence_key}
    lines = [
        "## Data",
        "",
        "| source | licence | documents | bytes | characters | left out | kept |",
        "|---|---|---|---|---|---|---|",
    ]
    for source in documents["sources"]:
        counts = _counts(source, ("documents", "bytes", "characters"), path)
        licence = own("by record") if source["name"] in by_record else escape(source["licence"])
        counted = " | ".join(reasons(source["dropped"], kept) for kept in (False, True))
        lines.append(f"| {escape(source['name'])} | {licence} | {counts} | {counted} |")
    total = _counts(documents, ("documents",), path)
    lines += [
        "",
        f"{total} documents in total. "
        "`data/documents` has the text, origin, licence and date of each.",
    ]
    return "\n".join(lines) + "\n"


def _licences(folder: Path) -> str:
    found = licences(folder)
    lines = ["| licence of the texts | documents | bytes | tokens |", "|---|---|---|---|"]
    common, others = found.commonest(_LICENCES)
    rows = [(escape(one.name), one) for one in common]
    for name, one in [*rows, (own("other licences"), others)] if others else rows:
        lines.append(f"| {name} | {' | '.join(f'{count:,}' for count in one[1:])} |")
    count = sum(found.unknown.values())
    whose = "1 document" if count == 1 else f"{count:,} documents"
    return "\n".join([*lines, "", f"The licence of {whose} is unknown."]) + "\n"


def _streams(folder: Path) -> str:
    lines = [
        "| source | split | tokens | blocks | unused tokens at the end |",
        "|---|---|---|---|---|",
    ]
    path = folder / layout.DATA_MANIFEST
    for one in stage.list_in(stage.read_manifest(path, "data"), "streams", path):
        source, split = (escape(stage.text_in(one, key, path)) for key in ("source", "split"))
        lines.append(
            f"| {source} | {split} | {_counts(one, ('tokens', 'blocks', 'unused_tokens'), path)} |"
        )
    return "\n".join(lines) + "\n"


def _counts(entry: Any, keys: tuple[str, ...], path: Path) -> str:
    """Cells of a row. Raises FormatInvalid."""
    return " | ".join(f"{stage.count_in(entry, key, path):,}" for key in keys)


def _results(about: dict[str, Any]) -> str:
    lines = [
        "## Results",
        "",
        "Validation, from the ledger:",
        "",
        "| step | nats per token | bits per byte |",
        "|---|---|---|",
    ]
    lines += [
        f"| {one['step']:,} | {one['loss']:.4f} | {one['bits_per_byte']:.4f} |"
        for one in about["validation"]
    ]
    lines += _by_source(about["validation"][-1])
    if not about["lossless"]:
        lines += ["", LOSSY]
    return "\n".join(lines) + "\n"


def _by_source(last: dict[str, Any]) -> list[str]:
    """The last validation of each source, which the sum over several hides."""
    if len(last["sources"]) < 2:
        return []
    rows = [
        f"| {escape(source['source'])} | {source['tokens']:,} | {source['loss']:.4f} "
        f"| {source['bits_per_byte']:.4f} |"
        for source in last["sources"]
    ]
    return [
        "",
        f"Of step {last['step']:,}, by source:",
        "",
        "| source | tokens | nats per token | bits per byte |",
        "|---|---|---|---|",
        *rows,
    ]


_FILES = """## Files

| path | content |
|---|---|
| `config.json`, `model.safetensors`, `tokenizer.json` … | the final checkpoint |
| `LICENSE` | licence of the model and its records; `data/documents` names \
the licence of each text |
| `recipe.toml` | everything that can change the bits of this run |
| `record/` | ledger, journal, the code that ran, its lock file |
| `checkpoints/stepK/` | complete Hugging Face folders |
| `anchors/stepK/` | full training states: weights and optimizer |
| `data/documents/` | the texts, as Parquet |
| `data/shards/` | the tokens, little-endian, with document tables |
| `metrics/` | steps, sequences, segments, sources, microbatches, validation, as Parquet |
| `trace/` | the index of the texts, if the run has one |
| `manifest.jsonl` | path, size and SHA-256 of every file |
"""
_LAST_ROW = "| `manifest.jsonl` |"
_ALL_FILES = _FILES.replace(
    _LAST_ROW,
    f"""| `evaluations/` | every question and answer of the evaluations, if there are any |
| `cards/`, `CITATION.cff` | dataset card, Croissant, openness, European summary, citation |
| `publisher.toml` | what only the publisher can say |
| `site/`, `pages/` | pages for browsers; open `site/index.html` |
{_LAST_ROW}""",
)
