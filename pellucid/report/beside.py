"""Runs beside the first of them: what differs in the recipe, and what came of it.

For a fork with `without`, the differences are the effect of what was left out. Influence functions
estimate it; a fork measures it, for the price of the steps that it takes again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from pellucid.changes import differences
from pellucid.measured import stored
from pellucid.measured.intervals import of_runs
from pellucid.measured.paired import Paired, paired
from pellucid.measured.summary import decimals
from pellucid.plan.tables import lasting
from pellucid.report import losses
from pellucid.report.blocks import (
    Block,
    Command,
    Picture,
    Pictures,
    Section,
    Table,
    Words,
    say,
)
from pellucid.report.chart import Chart, Line
from pellucid.report.evaluated import MOST_DRAWN, chart_of, line_of
from pellucid.report.reported import Reported
from pellucid.report.trained import LAST, curve, told, validated

_PLACE = ("fork.parent", "fork.step", "fork.state", "fork.tokens", "fork.cursors", "fork.rows")


class Compared(NamedTuple):
    """A run beside the first one."""

    run: Reported
    relation: str  # How it comes from the first one, in words.
    kind: tuple[str, ...]  # Equal for runs that differ from the first one in the same fields.
    recipe: list[dict[str, Any]]  # The fields that differ: field, a, b.
    losses: dict[str, Any] | None  # None: other tokens, or no rows of one step.
    validation: list[dict[str, Any]]  # By source; empty: of other texts, or never of one step.
    evaluations: list[Paired]
    others: list[str]  # Tasks that the runs were asked with other examples.


def compared(first: Reported, run: Reported) -> Compared:
    """Raises EvaluationBroken."""
    relation, related = _relation(first, run)
    fields = [
        one
        for one in differences(first.recipe, run.recipe)
        if not (related and one["field"].startswith(_PLACE))
    ]
    kind = (relation, *(one["field"] for one in fields))
    of = (_losses(first, run), _validation(first, run), list(_evaluations(first, run)))
    of = (*of, _other_examples(first, run))
    return Compared(run, relation, kind, fields, *of)


def _relation(first: Reported, run: Reported) -> tuple[str, bool]:
    """In words, and whether the place where a fork begins says nothing new."""
    if run.identity == first.identity:
        return "a copy of the first run, or the same run made again", True
    a, b = first.recipe.fork, run.recipe.fork
    if b.parent and (a.parent, a.step) == (b.parent, b.step):
        return f"a fork of the same run as the first run, after step {b.step:,}", True
    if _begins_in(run, first):
        return f"a fork of the first run after step {b.step:,}", True
    if _begins_in(first, run):
        return f"the run that the first run goes on from after step {a.step:,}", True
    return "a run of its own", False


def _begins_in(run: Reported, other: Reported) -> bool:
    """Whether a run is a fork that begins with a state of another run."""
    fork, ledger = run.recipe.fork, other.ledger
    if not fork.parent or ledger is None or not ledger.first <= fork.step <= ledger.steps_done:
        return False
    return ledger.step(fork.step)["state"] == fork.state


def _other_tokens(first: Reported, run: Reported) -> bool:
    """Whether the runs have different tokenizers, so that no loss per token can be compared."""
    a, b = first.ledger, run.ledger
    return bool(a and b and a.genesis["tokenizer"] != b.genesis["tokenizer"])


def _losses(first: Reported, run: Reported) -> dict[str, Any] | None:
    """Training losses at the last step that both took, and over the last steps."""
    return None if _other_tokens(first, run) else losses.compared(first, run, LAST)


def _validation(first: Reported, run: Reported) -> list[dict[str, Any]]:
    """Bits per byte at the last step that both validated, by source and over all."""
    if first.documents_root is None or first.documents_root != run.documents_root:
        return []
    a, b = ({one["step"]: one for one in own.about["validation"]} for own in (first, run))
    if not (steps := a.keys() & b.keys()):
        return []
    step = max(steps)
    rows = [_all(a[step]) | {"b": _all(b[step])}, *_by_source(a[step], b[step])]
    return [
        {
            "step": step,
            "source": row["source"],
            "bytes": row["bytes"],
            "a": row["bits_per_byte"],
            "b": row["b"]["bits_per_byte"],
            "difference": row["b"]["bits_per_byte"] - row["bits_per_byte"],
        }
        for row in rows
        if row["bytes"] == row["b"]["bytes"]
    ]


def _all(one: dict[str, Any]) -> dict[str, Any]:
    size = sum(source["bytes"] for source in one["sources"])
    return {"source": None, "bytes": size, "bits_per_byte": one["bits_per_byte"]}


def _by_source(a: dict[str, Any], b: dict[str, Any]) -> Iterator[dict[str, Any]]:
    others = {source["source"]: source for source in b["sources"]}
    if len(a["sources"]) > 1:
        for source in a["sources"]:
            if source["source"] in others:
                yield source | {"b": others[source["source"]]}


def _evaluations(first: Reported, run: Reported) -> Iterator[Paired]:
    """Of every task and step that both were asked: the newest of each."""
    for asked in filter(run.newest.__contains__, first.newest):
        for step in sorted(first.newest[asked].keys() & run.newest[asked].keys()):
            a, b = first.newest[asked][step], run.newest[asked][step]
            one = paired(a, stored.lines(first.folder, a), b, stored.lines(run.folder, b))
            yield one._replace(variant=first.variants[asked])


def _other_examples(first: Reported, run: Reported) -> list[str]:
    """Tasks of one name that no question of both runs is of."""
    a, b = ({asked[0] for asked in one.newest} for one in (first, run))
    return sorted(a & b - {asked[0] for asked in first.newest.keys() & run.newest.keys()})


# ---- as sections ----


def runs(first: Reported, others: Sequence[Compared]) -> Section:
    """All runs in one table, and their curves over each other."""
    every = [first, *(one.run for one in others)]
    head = tuple(map(Words, ("run", "what it is", "steps", "time", "loss", "bits per byte")))
    relations = [Words("the first run"), *(Words(one.relation) for one in others)]
    rows = [_row(run, relation) for run, relation in zip(every, relations, strict=True)]
    section = Section(
        Words("The runs"), [Table(Words("Steps, time and last losses"), head, rows, 2)]
    )
    section.blocks.append(say(Words(_STEPS)))
    section.numbers = {"runs": [*map(_numbers, every, relations)]}
    section.blocks.append(_heads(every))
    if len(every) > 1 and not any(_other_tokens(first, one.run) for one in others):
        begin = max(run.first for run in every)
        lines = [_after(curve(run, "loss", run.label), begin) for run in every]
        charts = [Picture("loss", Chart("Training loss", "nats per token", lines))]
    else:
        section.blocks.append(say(Words(_TOKENIZERS)))
        charts = []
    if all(run.about["validation"] for run in every):
        lines = [validated(run, run.label) for run in every]
        charts.append(Picture("validation", Chart("Validation", "bits per byte", lines)))
    section.blocks.append(Pictures(charts))
    section.checks = [Command(run.command("verify"), Words("checks the record")) for run in every]
    return section


def _after(line: Line, begin: int) -> Line:
    """What all runs have of a curve, without its band: the steps after the last of their forks."""
    return Line(line.name, [point for point in line.points if point[0] > begin])


_STEPS = "Steps and time are those that a run took itself, without the run that it goes on from."
_TOKENIZERS = (
    "The runs have different tokenizers, so their losses per token are not comparable, and none is "
    "drawn. Bits per byte of the same texts are comparable."
)


def _numbers(run: Reported, relation: str) -> dict[str, Any]:
    about = {"run": run.label, "relation": relation, "head": run.about["head"]}
    return about | told(run) | {"validation": run.about["validation"][-1:]}


def _row(run: Reported, relation: str) -> tuple[str, ...]:
    numbers, every = told(run), run.about["validation"]
    seconds, loss = numbers["seconds"], numbers["last_loss"]
    return (
        run.label,
        relation,
        f"{numbers['steps']:,}",
        lasting(seconds) if seconds else "-",
        "-" if loss is None else f"{loss:.4f}",
        f"{every[-1]['bits_per_byte']:.4f}" if every else "-",
    )


def _heads(every: Sequence[Reported]) -> Table:
    rows: list[tuple[str, ...]] = [(run.label, run.about["head"] or "-") for run in every]
    return Table(Words("Heads of the ledgers"), (Words("run"), Words("head")), rows, 2)


def one(first: Reported, other: Compared, place: int) -> Section:
    """A run beside the first one. place: which of the others it is."""
    run, section = other.run, Section(f"{other.run.label} beside {first.label}")
    section.blocks.append(say(run.label, Words(f" is {other.relation}."), *_without(run)))
    section.blocks += _recipe(first, other)
    section.blocks += _losses_told(first, other)
    section.blocks += _validation_told(first, other)
    section.blocks += _evaluations_told(first, other, place)
    if other.others:
        section.blocks.append(say(Words(_OTHERS), ", ".join(other.others), Words(".")))
    section.checks = [
        Command(f"pellucid diff {first.typed} {run.typed}", Words("computes the first difference")),
        Command(run.command("audit", "--evaluations 20"), Words("asks the model examples again")),
    ]
    section.numbers = {
        "relation": other.relation,
        "recipe": other.recipe,
        "losses": other.losses,
        "validation": other.validation,
        "evaluations": [each.as_json() for each in other.evaluations],
        "other_examples": other.others,
    }
    return section


def _without(run: Reported) -> list[str]:
    names = run.recipe.fork.without
    return [Words(" It is trained without "), ", ".join(names), Words(".")] if names else []


def _recipe(first: Reported, other: Compared) -> list[Block]:
    if not other.recipe:
        return [say(Words("The recipes have the same values."))]
    head = (Words("field"), first.label, other.run.label)
    rows: list[tuple[str, ...]] = [
        (each["field"], _value(each["a"]), _value(each["b"])) for each in other.recipe
    ]
    caption = f"Fields of the recipe in which {first.label} and {other.run.label} differ"
    return [Table(caption, head, rows, 3)]


def _value(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return "-" if value is None else str(value)


def _losses_told(first: Reported, other: Compared) -> list[Block]:
    known, run = other.losses, other.run
    if known is None:
        none = "The runs have no losses of one step."
        why = _TOKENIZERS if _other_tokens(first, run) else none
        return [say(Words(why))]
    names = ("training loss", first.label, run.label, "difference", "rows of the same texts")
    head = tuple(name if name in (first.label, run.label) else Words(name) for name in names)
    last, over = f"step {known['step']:,}", f"{known['over']:,} steps up to it"
    cells = [
        (Words(name), *_losses_cells(known[of])) for name, of in ((last, "last"), (over, "mean"))
    ]
    caption = f"Training loss of {first.label} and {run.label}, nats per token"
    return [Table(caption, head, cells), say(Words(_ROWS))]


def _losses_cells(known: dict[str, Any]) -> tuple[str, ...]:
    difference = known["difference"]
    return (
        f"{known['a']:.4f}",
        f"{known['b']:.4f}",
        "-" if difference is None else f"{difference:+.4f}",
        f"{known['same']:,} of {known['rows']:,}",
    )


_ROWS = (
    "These losses are of the rows of the batches that read the same block of the same texts in "
    "both runs, so their difference is one of the models. Where no row does, the losses are of all "
    "rows, and have no difference: the runs read other texts."
)


def _validation_told(first: Reported, other: Compared) -> list[Block]:
    if not other.validation:
        text = "The runs have no validation of one step and of the same texts in common."
        return [say(Words(text))]
    run, step = other.run, other.validation[0]["step"]
    head = (Words("source"), Words("bytes"), first.label, run.label, Words("difference"))
    rows = [
        (
            Words("all") if each["source"] is None else each["source"],
            f"{each['bytes']:,}",
            f"{each['a']:.4f}",
            f"{each['b']:.4f}",
            f"{each['difference']:+.4f}",
        )
        for each in other.validation
    ]
    caption = f"Validation of {first.label} and {run.label} at step {step:,}, bits per byte"
    return [Table(caption, head, rows)]


def _evaluations_told(first: Reported, other: Compared, place: int) -> list[Block]:
    if not other.evaluations:
        text = "No task was asked of both runs at the same step: evaluate both with the same tasks."
        return [say(Words(text))]
    run = other.run
    head = (
        *map(Words, ("task", "number", "step")),
        *(first.label, run.label),
        *map(Words, ("difference", "95% interval", "changed examples")),
    )
    rows = [
        (
            each.named,
            each.number,
            f"{each.step:,}",
            decimals(each.a),
            decimals(each.b),
            signed(each.difference),
            between(each.interval),
            f"{each.changed:,} of {each.examples:,}",
        )
        for each in other.evaluations
    ]
    table = Table(f"Evaluations of {first.label} and {run.label}", head, rows, 2)
    named = sorted({each.interval.method for each in other.evaluations if each.interval})
    words = Words(f"{_PAIRED} Methods: {'; '.join(named) or 'none'}.")
    return [table, say(words), Pictures(_charts(first, other, place))]


_PAIRED = (
    "Both models answer the same examples, so the interval is that of the mean difference of an "
    "example. Examples of a cluster count as one."
)


_OTHERS = "Other examples in the two runs, not compared: "


def signed(value: float) -> str:
    """A difference: of two values that tables show with three decimals, with one more."""
    return f"{value:+.4f}" if abs(value) < 1e6 else f"{value:+.3e}"


def between(interval: Any) -> str:
    return f"{signed(interval.low)} to {signed(interval.high)}" if interval else "-"


def _charts(first: Reported, other: Compared, place: int) -> list[Picture]:
    """Each task that both were asked and one at several steps, over the steps of both."""
    own, theirs = first.tasks, other.run.tasks
    drawn = [key for key in own if key in theirs and len(own[key]) + len(theirs[key]) > 2]
    return [
        Picture(f"evaluation-{place}-{number}", chart_of(own[key][-1], lines))
        for number, key in enumerate(drawn[:MOST_DRAWN], 1)
        for lines in [[line_of(one.label, one.tasks[key]) for one in (first, other.run)]]
    ]


def several(first: Reported, others: Sequence[Compared]) -> list[Section]:
    """Of runs that differ from the first one in the same fields: the mean difference, with an
    interval over these runs. Copies of a run, and of the first one, tell nothing more."""
    kinds: dict[tuple[str, ...], dict[str, Compared]] = {}
    for each in others:
        if each.run.identity != first.identity:
            kinds.setdefault(each.kind, {}).setdefault(each.run.identity, each)
    return [_several(first, [*own.values()]) for own in kinds.values() if len(own) > 1]


def _several(first: Reported, own: Sequence[Compared]) -> Section:
    names = ", ".join(each.run.label for each in own)
    section = Section(f"Over the runs {names}")
    rows, numbers = list[tuple[str, ...]](), list[dict[str, Any]]()
    for (what, number, step), values in _together(own).items():
        mean, interval = math.fsum(values) / len(values), of_runs(values)
        cells = (f"{step:,}", signed(mean), between(interval), f"{len(values):,}")
        rows.append((what, number, *cells))
        about = {"what": what, "number": number, "step": step, "values": values, "mean": mean}
        numbers.append(about | {"interval": interval._asdict() if interval else None})
    head = ("what", "number", "step", "mean difference", "95% interval", "runs")
    caption = f"Mean differences of {names} from {first.label}"
    fields = ", ".join(own[0].kind[1:])
    said = [Words(" in the fields "), fields] if fields else [Words(" in no field")]
    opening = say(Words("These runs differ from "), first.label, *said, Words(f". {_OVER_RUNS}"))
    section.blocks = [opening, Table(caption, tuple(map(Words, head)), rows, 2)]
    section.numbers = {"runs": [each.run.label for each in own], "differences": numbers}
    return section


_OVER_RUNS = (
    "The interval is Student's t over the differences of the runs. It tells how the mean "
    "difference would vary with other runs of this kind. The first run stays the same."
)


def _together(own: Sequence[Compared]) -> dict[tuple[str, str, int], list[float]]:
    """The differences that several of the runs have."""
    found: dict[tuple[str, str, int], list[float]] = {}
    for each in own:
        for key, value in _differences(each).items():
            found.setdefault(key, []).append(value)
    return {key: values for key, values in found.items() if len(values) > 1}


def _differences(own: Compared) -> dict[tuple[str, str, int], float]:
    """Everything of a run that has a difference, by its name, its number and its step."""
    found = dict[tuple[str, str, int], float]()
    if own.losses and (difference := own.losses["mean"]["difference"]) is not None:
        found["training loss", "nats per token", own.losses["step"]] = difference
    for each in own.validation:
        name = Words("validation") if each["source"] is None else f"validation of {each['source']}"
        found[name, "bits per byte", each["step"]] = each["difference"]
    for asked in own.evaluations:
        found[asked.named, asked.number, asked.step] = asked.difference
    return found
