"""What the verbs answer, printed: tables, steps, documents, places, curves."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from pellucid.data.about import is_unknown
from pellucid.terminal import printable, word


def print_status(about: dict[str, Any]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    state = "finished" if about["finished"] else "in training" if about["steps_done"] else "begun"
    sealed = ", sealed" if about["sealed"] else ""
    console.print(
        f"[bold]{escape(about['run'])}[/bold]  {state}{sealed}: step "
        f"{about['steps_done']:,} of {about['steps']:,}"
    )
    done = [name for name, finished in about["stages"].items() if finished]
    console.print(f"data      {', '.join(done) or 'nothing yet'}")
    if about["fork"]:
        _print_fork(console, about["fork"])
    if about["head"]:
        console.print(f"head      {about['head']}")
        console.print(f"weights   {about['weights']}")
        console.print(
            f"tokens    {_tokens(about)}"
            + (f"   loss {about['loss']:.4f}" if about["loss"] else "")
        )
        console.print(f"anchors   {_steps(about['anchors'])}")
    if count := about.get("evaluations"):
        console.print(f"evaluated {count:,} times, each a task of a step")
    for one in about["incidents"]:
        console.print(f"incident  step {one['step']:,}: {word(one['why'])}: {word(one['action'])}")
    if about["validation"]:
        table = Table("step", "nats per token", "bits per byte", box=None, header_style="dim")
        for one in about["validation"]:
            table.add_row(f"{one['step']:,}", f"{one['loss']:.4f}", f"{one['bits_per_byte']:.4f}")
        console.print(table)
        if not about["lossless"]:
            from pellucid.data.tokenizer import LOSSY  # With NumPy, which --help does not need.

            console.print(LOSSY)


def _print_fork(console: Console, fork: dict[str, Any]) -> None:
    from pellucid.forked import fork_in_words

    console.print(fork_in_words(fork))
    if fork["without"]:
        console.print(f"without   {', '.join(word(name) for name in fork['without'])}")


def _tokens(about: dict[str, Any]) -> str:
    from pellucid.forked import tokens_in_words

    return tokens_in_words(int(about["tokens"]), about.get("fork"))


def _steps(steps: list[int]) -> str:
    shown = ", ".join(str(step) for step in steps[-12:])
    return f"at steps {'… ' if len(steps) > 12 else ''}{shown}" if steps else "none"


def print_step(about: dict[str, Any], characters: int) -> None:
    console = Console(highlight=False, soft_wrap=True)
    console.print(
        f"[bold]step {about['step']}[/bold]   entry {about['entry']}   digest {about['digest']}"
    )
    if "loss" in about:
        names = ("loss", "lr", "grad_norm", "weight_norm")
        console.print(
            "   ".join(f"{name} {about[name]:.6g}" for name in names)
            + f"   tokens so far {_tokens(about)}"
        )
    if "fork" in about:
        _print_fork(console, about["fork"])
    console.print(f"state     {about['state']}\nweights   {about['weights']}")
    if "phase" in about:
        console.print(
            f"phase     {word(about['phase'])}, {len(about['rows']):,} rows of "
            f"{about['context']:,} targets"
        )
    for evaluated in about.get("evaluations", ()):
        console.print(f"evaluated {_evaluated(evaluated)}")
    for row in about["rows"]:
        loss = f"   loss {row['loss']:.4f}" if "loss" in row else ""
        place = f"block {row['block']} from {row['start']} on, epoch {row['epoch']}"
        console.print(f"\n[bold]row {row['row']}[/bold]  {place}{loss}")
        _print_segments(console, row["segments"], characters)


def _evaluated(about: dict[str, Any]) -> str:
    from pellucid.measured.summary import decimals
    from pellucid.measured.variants import shown as named

    between = about["interval"]
    low_high = (
        f", 95% interval {decimals(between['low'])}-{decimals(between['high'])}" if between else ""
    )
    task = named(about["task"], about["variant"])
    shown = f"{word(task)}: {word(about['number'])} {decimals(about['value'])}"
    return f"{shown}{low_high}, {about['examples']:,} examples"


def print_block(about: dict[str, Any], characters: int) -> None:
    console = Console(highlight=False, soft_wrap=True)
    console.print(
        f"[bold]block {about['block']}[/bold] of {word(about['source'])}, {_seen(about['steps'])}"
    )
    _print_abandoned(console, [about])
    _print_segments(console, about["segments"], characters)


def _print_abandoned(console: Console, blocks: list[dict[str, Any]]) -> None:
    """Times that count for nothing in the run's later states, for a
    rollback went back behind them."""
    for one in blocks:
        for seen in one["abandoned"]:
            where = (
                f"step {seen['step']} row {seen['row']}, before branch "
                f"{seen['branch']}{_loss(seen)}"
            )
            console.print(f"block {one['block']}, abandoned by a rollback: {where}")


def _print_segments(console: Console, segments: list[dict[str, Any]], characters: int) -> None:
    for segment in segments:
        loss = f"  loss {segment['loss']:.4f}" if segment.get("loss") is not None else ""
        console.print(f"  [cyan]{word(segment['document'])}[/cyan]  {word(licence(segment))}{loss}")
        console.print(f"    {escape(printable(segment['text'], characters))}")


def print_document(about: dict[str, Any], characters: int) -> None:
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[bold]{word(about['id'])}[/bold]  ({word(about['split'])})")
    names = ("source", "licence", "origin", *(("date",) if about["date"] else ()), "sha256")
    for name in names:
        console.print(f"{name:<11}{word(about[name])}")
    if "parts" in about:
        console.print(
            f"{'parts':<11}{len(about['parts'])}, {word(about['parts'][0])} to "
            f"{word(about['parts'][-1])}"
        )
    console.print(
        f"{'size':<11}{about['characters']:,} characters, {about['bytes']:,} bytes, "
        f"{about['tokens']:,} tokens"
    )
    seen = [one for one in about["blocks"] if one["steps"]]
    console.print(
        f"{'trained on':<11}in {len(seen)} of the {len(about['blocks'])} blocks that hold it"
    )
    for one in about["epochs"]:
        steps = (
            f"step {one['first']}"
            if one["first"] == one["last"]
            else f"steps {one['first']} to {one['last']}"
        )
        console.print(
            f"{'':<11}epoch {one['epoch']}{_loss(one)} over {one['tokens']:,} tokens, {steps}"
        )
    for one in seen:
        console.print(f"block {one['block']}, {_seen(one['steps'])}")
    _print_abandoned(console, about["blocks"])
    console.print(f"\n{escape(printable(about['text'], characters))}")


def print_answer(names: list[str], rows: list[dict[str, Any]]) -> None:
    """The rows of an answer to a query, a line each; long texts are cut."""
    table = Table(box=None, header_style="dim", pad_edge=False)
    for name in names:
        numbers = all(isinstance(row[name], int | float | None) for row in rows)
        table.add_column(_cell(name), no_wrap=True, justify="right" if numbers else "left")
    for row in rows:
        table.add_row(*(_cell(row[name]) for name in names))
    _console_of_tables().print(table)


def print_views(about: dict[str, Any]) -> None:
    """What there is to ask about: the views of a run, their rows and columns."""
    console = _console_of_tables()
    for view in about["views"]:
        console.print(
            f"[bold]{view['view']}[/bold]  {view['rows']:,} rows, each {escape(view['meaning'])}"
        )
        table = Table.grid(padding=(0, 2))
        for column in view["columns"]:
            table.add_row(
                f"  [cyan]{column['name']}[/cyan]", column["type"], escape(column["meaning"])
            )
        console.print(table)


def _console_of_tables() -> Console:
    """As wide as the terminal; where there is none, as wide as the table."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=10_000)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    text = (
        f"{value:.6g}"
        if isinstance(value, float)
        else value
        if isinstance(value, str)
        else json.dumps(value)
    )
    return escape(printable(text, 60).replace("\n", " "))


def _seen(steps: list[dict[str, Any]], most: int = 20) -> str:
    if not steps:
        return "not reached by this run"
    times = [
        f"step {time['step']} row {time['row']}, epoch {time['epoch']}{_loss(time)}"
        for time in steps[:most]
    ]
    return "seen at " + "; ".join([*times, *["…"] * (len(steps) > most)])


def _loss(row: dict[str, Any]) -> str:
    """Nothing where the rows of that step are not written yet."""
    return f" loss {row['loss']:.4f}" if "loss" in row else ""


def print_life(life: dict[str, Any]) -> None:
    windows = len(life["windows"])
    print(
        f"\nloss computed on {life['tokens']:,} tokens in {windows:,} window{'s' * (windows != 1)}"
    )
    width = max((len(f"{point['step']:,}") for point in life["at"]), default=0)
    for point in life["at"]:
        print(f"at step {point['step']:>{width},}   {point['loss']:.4f}")


def print_chart(curve: list[tuple[float, float]], marks: list[tuple[float, float]]) -> None:
    from pellucid.look.chart import chart

    parts = ["line: computed at the step"] * bool(curve) + ["×: recorded in training"] * bool(marks)
    print("\nloss, nats per token, by step   " + "   ".join(parts))
    for line in chart(curve, marks):
        print(line)


def licence(about: dict[str, Any]) -> str:
    """The licence of a document, where nothing beside it says what the word is: a bare
    "unknown" could be anything."""
    return "licence unknown" if is_unknown(about["licence"]) else about["licence"]


def print_where(about: dict[str, Any]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    hits, count = about["hits"], about["count"]
    seen = "" if "before" not in about else f", seen before step {about['before']:,}"
    shown = f", the first {len(hits):,} in the documents' order" if 0 < len(hits) < count else ""
    console.print(
        f"{count:,} {'place' if count == 1 else 'places'} in the training texts{seen}{shown}"
    )
    if about["validation"]:
        console.print(f"{about['validation']:,} in the validation texts, which no step trains on")
    for hit in hits:
        date = f"  {word(hit['date'])}" if hit["date"] else ""
        console.print(
            f"\n[cyan]{word(hit['document'])}[/cyan]  character {hit['offset']:,}  "
            f"{word(licence(hit))}"
            f"  {word(hit['origin'])}{date}"
        )
        console.print(_highlighted(*hit["context"]))
        if hit["block"] is None:
            console.print("  after the last block of its source: no step trains on it")
            continue
        console.print(f"  block {hit['block']}, {_seen(hit['steps'])}")
        for block in hit["continues"]:
            console.print(f"  and block {block['block']}, {_seen(block['steps'])}")


def _highlighted(before: str, here: str, after: str) -> Text:
    """A place in its lines, indented."""
    begin = before[before.rfind("\n") + 1 :].lstrip()
    end = after.partition("\n")[0].rstrip()
    text = Text.assemble(
        printable(begin, len(begin)),
        (printable(here, 400), "bold yellow"),
        printable(end, len(end)),
    )
    lines = text.split("\n")
    return Text("\n").join(Text("    ") + line for line in lines)


def print_trace(about: dict[str, Any]) -> None:
    """The text with its spans in colours where the terminal has them, and the spans in words."""
    console = Console(highlight=False, soft_wrap=True)
    styles = [""] * len(about["text"])
    for span in reversed(about["spans"]):  # So that the rarest of two that overlap is on top.
        styles[span["start"] : span["end"]] = [_rarity(span["count"])] * (
            span["end"] - span["start"]
        )
    characters = (
        (printable(character, 1), style)
        for character, style in zip(about["text"], styles, strict=True)
    )
    console.print(Text.assemble(*characters))
    seen = (
        "the training texts"
        if about["before"] is None
        else f"what was seen before step {about['before']:,}"
    )
    count = len(about["spans"])
    many = f"{count:,} {'span' if count == 1 else 'spans'}" if count else "no span"
    console.print(f"\n{many} of {about['least']} or more characters, word for word in {seen}")
    for span in about["spans"]:
        style = _rarity(span["count"])
        console.print(
            f"\n[{style}]characters {span['start']:,} to {span['end']:,}[/{style}]  "
            f"{span['count']:,} "
            f"{'place' if span['count'] == 1 else 'places'}: {word(printable(span['text'], 80))}"
        )
        documents, more = span["documents"][:3], len(span["documents"]) > 3
        names = (
            f"[cyan]{word(document['document'])}[/cyan]  {word(licence(document))}"
            for document in documents
        )
        console.print(f"  {', '.join(names)}{', …' if more else ''}")
        console.print(f"  {_seen(span['steps'], 4)}")


def _rarity(count: int) -> str:
    """The colour of a span: red stands for what is found once."""
    return "bold red" if count == 1 else "yellow" if count <= 10 else "green"


def print_difference(about: dict[str, Any]) -> None:
    for line in about["explanation"]:
        print(printable(line, 2000))
