"""What a run is, and what its texts are."""

from __future__ import annotations

from typing import Any

from pellucid.data import stage
from pellucid.data.about import is_unknown
from pellucid.data.tokenizer import LOSSY
from pellucid.forked import NOT_HERE, tokens_in_words
from pellucid.report.blocks import Command, Section, Table, Words, missing, say
from pellucid.report.reported import Reported
from pellucid.site.overview import corpus
from pellucid.store import layout

_SHAPE = ("family", "layers", "width", "heads", "kv_heads", "mlp_width", "context")
_NAMES = {"kv_heads": "heads of keys and values", "mlp_width": "width of the MLP"}


def model(run: Reported) -> Section:
    """The recipe in words: the model, how it is trained, and the digests."""
    recipe, about = run.recipe, run.about
    section = Section(Words("The run"))
    section.blocks.append(say(Words(f"{_sentence(run)} "), *_fork(about["fork"])))
    shape = [(Words(_NAMES.get(n, n)), _written(getattr(recipe.model, n))) for n in _SHAPE]
    rows = [
        (Words("steps"), f"{about['steps_done']:,} of {about['steps']:,}"),
        (Words("tokens trained on"), tokens_in_words(int(about["tokens"]), about["fork"])),
        (Words("parameters"), _written(run.parameters)),
        *shape,
        (Words("vocabulary"), _written(run.vocabulary)),
        (Words("optimizer"), recipe.optimizer.kind),
        (Words("seed"), str(recipe.seed)),
        (Words("arithmetic"), f"{recipe.train.arithmetic}, {recipe.train.precision}"),
        (Words("head of the ledger"), about["head"] or "-"),
        (Words("digest of the weights"), about["weights"] or "-"),
        (Words("data root"), about.get("data") or "-"),
        (Words("digest of the recipe"), recipe.digest().hex()),
    ]
    section.blocks.append(
        Table(Words("Recipe and digests"), (Words("what"), Words("value")), rows, 2)
    )
    section.blocks.append(_phases(run))
    section.checks = [
        Command(run.command("verify"), Words("checks files, chain, data and every number")),
        Command(run.command("status"), Words("prints the head and the digests")),
    ]
    names = ("steps", "steps_done", "finished", "tokens", "fork", "head", "weights", "sealed")
    section.numbers = {name: about[name] for name in names} | {
        "data": about.get("data"),
        "recipe": recipe.digest().hex(),
        "parameters": run.parameters,
        "vocabulary": run.vocabulary,
        **{name: getattr(recipe.model, name) for name in _SHAPE},
        "arithmetic": recipe.train.arithmetic,
        "precision": recipe.train.precision,
    }
    return section


def _sentence(run: Reported) -> str:
    of = f" of {run.parameters:,} parameters" if run.parameters else ""
    stands = "finished" if run.about["finished"] else "not finished"
    return f"A language model{of}, trained in the open with Pellucid. The training is {stands}."


def _fork(fork: dict[str, Any] | None) -> list[str]:
    if not fork:
        return []
    parts: list[str] = [Words(f"The run is a fork: it goes on after step {fork['step']:,} of the ")]
    parts.append(Words(f"run with the head {fork['parent']}; {NOT_HERE}."))
    if fork["without"]:
        parts += [Words(" It is trained without "), ", ".join(fork["without"]), Words(".")]
    return parts


def _phases(run: Reported) -> Table:
    head = tuple(map(Words, ("phase", "steps", "rows", "context", "lr", "schedule")))
    rows = [
        (
            phase.name,
            f"{phase.steps:,}",
            f"{phase.batch:,}",
            f"{phase.context:,}",
            f"{phase.lr:g}",
            phase.schedule,
        )
        for phase in run.recipe.schedule.phases
    ]
    return Table(Words("Phases: rows of a step, and targets of a row"), head, rows)


def _written(value: object) -> str:
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def texts(run: Reported) -> Section:
    """Sources, licences, splits, and what was left out."""
    if not run.about["stages"]["shards"]:
        return missing("The texts", "The texts are not prepared yet.", run.command("run"))
    about = corpus(run.folder)
    section = Section(Words("The texts"), numbers=about)
    total = sum(_count(run, source, "bytes") for source in about["sources"])
    sizes = f"{about['documents']:,} documents of {total:,} bytes"
    section.blocks += [
        say(Words(f"The run has {sizes}, from {_many(len(about['sources']), 'source')}.")),
        _sources(run, about["sources"]),
        _streams(run, about["streams"]),
        _licences(about),
        *_left_out(about["sources"]),
    ]
    if not run.about["lossless"]:
        section.blocks.append(say(Words(LOSSY)))
    query = '"SELECT source, split, count(*) FROM documents GROUP BY ALL"'
    section.checks = [
        Command(run.command("verify"), Words("checks every text against the data root")),
        Command(run.command("sql", query), Words("counts the documents")),
    ]
    return section


def _many(count: int, one: str) -> str:
    return f"{count:,} {one}{'s' * (count != 1)}"


def _count(run: Reported, entry: dict[str, Any], name: str) -> int:
    """A count of a manifest, which a text may spell. Raises FormatInvalid."""
    return stage.count_in(entry, name, run.folder / layout.DATA_MANIFEST)


def _sources(run: Reported, sources: list[dict[str, Any]]) -> Table:
    counted = ("documents", "validation_documents", "bytes", "weight")
    head = ("source", "licence", "documents", "of them validation", "bytes", "weight")
    rows = [
        (
            source["name"],
            Words("by record") if source["licence_by_record"] else _licence(source["licence"]),
            *(f"{_count(run, source, name):,}" for name in counted),
        )
        for source in sources
    ]
    return Table(Words("Sources"), tuple(map(Words, head)), rows, 2)


def _licence(name: str) -> str:
    return "unknown" if is_unknown(name) else name


def _streams(run: Reported, streams: list[dict[str, Any]]) -> Table:
    head = ("source", "split", "tokens", "blocks", "unused tokens at the end")
    rows = [
        (one["source"], one["split"], *(f"{_count(run, one, name):,}" for name in _COUNTED))
        for one in streams
    ]
    return Table(Words("Tokens by split"), tuple(map(Words, head)), rows, 2)


_COUNTED = ("tokens", "blocks", "unused_tokens")


def _licences(about: dict[str, Any]) -> Table:
    head = ("licence of the texts", "documents", "bytes", "tokens")
    named: list[tuple[str, dict[str, Any]]] = [(one["name"], one) for one in about["licences"]]
    if about["other_licences"]:
        named.append((Words("other licences"), about["other_licences"]))
    counted = ("documents", "bytes", "tokens")
    rows = [(name, *(f"{one[count]:,}" for count in counted)) for name, one in named]
    return Table(Words("Licences"), tuple(map(Words, head)), rows)


def _left_out(sources: list[dict[str, Any]]) -> list[Any]:
    rows = [
        (
            source["name"],
            reason["words"],
            Words("kept, changed" if reason["kept"] else "left out"),
            f"{reason['count']:,}",
        )
        for source in sources
        for reason in source["reasons"]
    ]
    if not rows:
        return [say(Words("No text was left out."))]
    head = ("source", "reason", "what was done", "texts")
    return [Table(Words("Left out, or kept with changes"), tuple(map(Words, head)), rows, 3)]
