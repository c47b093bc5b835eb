"""What a person watches while a run goes on, and the tables printed when it stands."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import IO, Any, cast

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

_BLOCKS = "▁▂▃▄▅▆▇█"
_LOG_SECONDS = 5.0  # Where nobody watches a terminal, a line this often.


def sparkline(values: list[float], width: int = 24) -> str:
    """The course of a number in one line of blocks."""
    if not values:
        return ""
    step = max(1, len(values) // width)
    means = [
        sum(values[i : i + step]) / len(values[i : i + step]) for i in range(0, len(values), step)
    ][-width:]
    low, high = min(means), max(means)
    scale = (len(_BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BLOCKS[round((value - low) * scale)] for value in means)


class _Heard:
    """A stream that may be closed or hung up while a run goes on: what
    nobody hears must not end it."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()


class Terminal:
    """Bars and curves on a terminal, plain lines elsewhere; on standard error,
    so that --json stays clean."""

    def __init__(self, quiet: bool = False) -> None:
        self.console = Console(file=cast(IO[str], _Heard(sys.stderr)), quiet=quiet, highlight=False)
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._losses: list[float] = []
        self._last, self._first_step = 0, 0
        self._logged = self._begun = time.monotonic()
        self._stage = self._said = ""
        self.report: list[dict[str, Any]] = []  # What documents() was told.

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress:
            self._progress.stop()
            self._progress = None
            self._tasks = {}

    def note(self, text: str) -> None:
        self.console.print(escape(text))

    def progress(self, stage: str, done: int, total: int | None, unit: str) -> None:
        if stage != self._stage:
            self._stage = stage
            self._logged = time.monotonic()
        described = f"{_amount(done, unit)}" + (f" of {_amount(total, unit)}" if total else "")
        if self.console.is_terminal:
            self._update(stage, done, total, described)
        elif time.monotonic() - self._logged > _LOG_SECONDS or done == total:
            self._logged = time.monotonic()
            if (line := f"{stage}: {described}") != self._said:  # A stage's end is told once.
                self._said = line
                self.console.print(escape(line))

    def search(self, stage: str, done: int, total: int | None, unit: str) -> None:
        """The same, and nothing where nobody watches: a search is told by what it finds."""
        if self.console.is_terminal and not self.console.quiet:
            self.progress(stage, done, total, unit)

    def documents(self, report: list[dict[str, Any]]) -> None:
        """What became of the sources, once they are read."""
        if self._progress:
            self.__exit__()  # A table under a bar that still moves would be torn.
        self.report = report
        print_sources(report, self.console)

    def begin(self, first: int, last: int) -> None:
        self._last, self._first_step, self._begun, self._losses = last, first, time.monotonic(), []

    def step(self, number: int, loss: float, tokens_per_second: float, lr: float) -> None:
        self._losses.append(loss)
        said = f"step {number}/{self._last}  loss {loss:.4f}  {tokens_per_second:,.0f} tokens/s"
        if self.console.is_terminal:
            self._update("train", number, self._last, f"{said}  {sparkline(self._losses)}")
        elif number == self._last or time.monotonic() - self._logged > _LOG_SECONDS:
            self._logged = time.monotonic()
            left = (time.monotonic() - self._begun) / len(self._losses) * (self._last - number)
            self.console.print(f"train: {said}  lr {lr:.2e}  {left:,.0f} s left")

    def validation(self, step: int, sources: list[dict[str, Any]]) -> None:
        from pellucid.look.status import validation
        from pellucid.record import digests

        sums = [one | {"loss_sum": digests.float_bits(one["loss_sum"])} for one in sources]
        result = validation({"step": step, "sources": sums})
        numbers = (
            f"{result['loss']:.4f} nats per token, {result['bits_per_byte']:.4f} bits per byte"
        )
        self.console.print(f"validation at step {step}: {numbers}")

    def incident(self, incident: dict[str, Any]) -> None:
        from pellucid.record.guards import in_words

        done = {
            "rollback": f"going back to step {incident.get('to')}",
            "stop": "stopping",
            "note": "noted",
        }
        self.note(f"step {incident['step']}: {in_words(incident)}: {done[incident['action']]}")

    def watch(self, what: str) -> Any:
        """A callback (done, total) for replays: bars where somebody watches,
        else a line every few seconds."""
        begun = time.monotonic()
        self._logged = begun

        def told(done: int, total: int) -> None:
            said, now = f"{done:,} of {total:,} steps replayed", time.monotonic()
            if self.console.is_terminal:
                self._update(what, done, total, said)
            elif now - self._logged > _LOG_SECONDS:
                self._logged = now
                left = (now - begun) / max(1, done) * (total - done)
                self.console.print(
                    f"{what}: {said}  {total - done:,} steps, {left:,.0f} s left", markup=False
                )

        return told

    def _update(self, name: str, done: int, total: int | None, text: str) -> None:
        if self._progress is None:
            columns = (
                TextColumn("{task.fields[name]:<10}"),
                BarColumn(bar_width=24),
                TextColumn("{task.description}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
            )
            self._progress = Progress(*columns, console=self.console)
            self._progress.start()
        if name not in self._tasks:
            for task in self._tasks.values():
                _finished(self._progress, task)
            self._tasks[name] = self._progress.add_task("", total=total, name=escape(name))
        self._progress.update(
            self._tasks[name], completed=done, total=total, description=escape(text)
        )


def _finished(progress: Progress, task: TaskID) -> None:
    """A stage's bar stands full and its clock still once the next begins."""
    done = progress.tasks[task].completed
    progress.update(task, total=done, completed=done)
    progress.stop_task(task)


def _amount(value: int | None, unit: str) -> str:
    if value is None:
        return "?"
    return f"{value / 1e6:,.1f} MB" if unit == "bytes" else f"{value:,} {unit}"


def print_sources(report: list[dict[str, Any]], console: Console) -> None:
    """One table of what the sources gave and what was left out, and a
    warning where that is much."""
    if not any(one["left_out"] for one in report):
        texts = sum(one["documents"] for one in report)
        console.print(f"documents: {texts:,}, nothing left out")
        return
    if not console.is_terminal:
        console.width = max(console.width, 160)
    table = Table(
        "source",
        "documents",
        "bytes",
        "left out, or kept",
        "for example",
        box=None,
        header_style="dim",
    )
    for column in table.columns[1:3]:
        column.justify = "right"
    for one in report:
        table.add_row(word(one["source"]), f"{one['documents']:,}", f"{one['bytes']:,}", "", "")
        for left in one["left_out"]:
            size = f"{left['bytes']:,}" if left["bytes"] else ""
            words = f"kept: {left['words']}" if left["kept"] else left["words"]
            examples = ", ".join(map(word, left["examples"])) + (
                ", …" if left["documents"] > len(left["examples"]) else ""
            )
            table.add_row("", f"{left['documents']:,}", size, words, examples)
        if one["replaced_bytes"]:
            table.add_row("", "", f"{one['replaced_bytes']:,}", "replaced bytes", "")
    console.print(table)
    for one in report:
        for line in warnings(one):
            console.print(f"[yellow]warning[/yellow]: {escape(line)}", soft_wrap=True)


def warnings(source: dict[str, Any]) -> list[str]:
    """What of a source's report is more than a hundredth of its documents or bytes, in words."""
    lines, out = (
        [],
        [reason for reason in source["left_out"] if not reason["kept"] and not reason["quiet"]],
    )
    texts, size = source["texts"], sum(reason["bytes"] for reason in out)
    documents = sum(reason["documents"] for reason in out)
    if 100 * documents > texts + documents or 100 * size > source["bytes"] + size:
        reasons = ", ".join(f"{reason['words']} ({reason['documents']:,})" for reason in out)
        share = 100 * size / max(1, source["bytes"] + size)
        lines.append(
            f"source {source['source']} leaves out {_counted(source, out)}, "
            f"{share:.1f}% of the bytes: {reasons}"
        )
    kept = [reason for reason in source["left_out"] if reason["kept"] and not reason["quiet"]]
    for reason in kept:
        if reason["reason"] != "invalid_utf8_replaced" and 100 * reason["documents"] > texts:
            affected = f"{reason['documents']:,} of {texts:,} texts"
            lines.append(f"source {source['source']}: {affected} have {reason['words']}")
    changed = sum(
        reason["documents"] for reason in kept if reason["reason"] == "invalid_utf8_replaced"
    )
    replaced = source["replaced_bytes"]
    if 100 * changed > texts or 100 * replaced > source["bytes"]:
        lines.append(
            f"source {source['source']}: {replaced:,} bytes in {changed:,} texts are not "
            "UTF-8 and became U+FFFD"
        )
    return lines


def _counted(source: dict[str, Any], out: list[dict[str, Any]]) -> str:
    """How many files and records were left out: "3 files and 85 of 700 records"."""
    files, records = (
        sum(one["documents"] for one in out if one["of_file"] == of_file)
        for of_file in (True, False)
    )
    if source["items"] == "files":  # Each of which is a text.
        return f"{files + records:,} of {source['texts'] + files + records:,} files"
    told = [f"{files:,} file{'s' * (files != 1)}"] if files else []
    if records:
        told.append(f"{records:,} of {source['texts'] + records:,} records")
    return " and ".join(told)


def word(text: object) -> str:
    """Somebody else's string on one line of ours, without control characters and without markup."""
    return escape(plain(text))


def plain(text: object) -> str:
    """Somebody else's string, or a message that quotes one, on one line and
    without control characters."""
    return printable(str(text), 2000).replace("\n", " ")


def printable(text: str, characters: int) -> str:
    """The beginning of a text without control characters: a document may hold terminal commands."""
    cut = text[:characters] + (" …" if len(text) > characters else "")
    return "".join(
        c if c.isprintable() or c == "\n" else "\ufffd" if c != "\t" else "    " for c in cut
    )
