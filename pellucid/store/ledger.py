"""Asking a ledger on disk about a step without reading all of it.

Steps ascend in the file within a branch, and branches do, so a step is found by bisection over byte
offsets. What is read here is not checked against the chain: `pellucid verify` does that."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pellucid.errors import FormatInvalid, FormatTooNew, NotTrained, StepUnknown
from pellucid.record import chain, entries, verdict
from pellucid.record.history import History, rolls_back
from pellucid.store import files, layout

_BLOCK = chain.MAX_LINE  # Bytes that are searched at once: no entry is longer.
_SMALLEST = 64  # Bytes: no entry is shorter, for `prev` is in it.
_MOST_ROLLBACKS = 1000  # No recipe allows more.


def begun(folder: Path) -> LedgerFile | None:
    """The ledger of a run; None before its first entry. Raises FormatInvalid, FormatTooNew."""
    try:
        return LedgerFile(folder)
    except NotTrained:
        return None


def places(folder: Path, heads: set[str]) -> dict[str, int]:
    """Of digests those that entries of the ledger have, with the entries' numbers."""
    numbers = {}
    with files.open_file(folder / layout.LEDGER) as file:
        for n, line in enumerate(iter(lambda: file.readline(chain.MAX_LINE + 2), b"")):
            if (digest := chain.digest_of(line)) in heads:
                numbers[digest] = n
    return numbers


class LedgerFile:
    """A ledger opened for questions. Raises NotTrained where there is none yet,
    FormatInvalid, FormatTooNew."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / layout.LEDGER
        if not self.path.exists() or (not self.path.stat().st_size and self.path.is_file()):
            raise NotTrained(path=folder, detail="its ledger is empty")
        self._file = files.open_file(self.path)
        self._end = self._last_line_end()
        if not self._end:
            raise NotTrained(path=folder, detail="its ledger is empty")
        self.genesis = self._body(self._file_line(0))
        if self.genesis.get("kind") != "genesis":
            raise FormatInvalid(path=self.path, detail="does not begin with a genesis")
        if self.genesis.get("format") != entries.FORMAT:
            raise FormatTooNew(
                path=self.path, found=self.genesis.get("format"), known=entries.FORMAT
            )
        self._sound(self.genesis)
        last = self._line_before(self._end)
        self.head = chain.digest_of(last)
        self.last = self._sound(self._body(last))
        self.ended = self.last["kind"] == "end"
        self.first = int(self.genesis.get("step", 0))  # The step whose state the run begins with.
        self.rollbacks = self._rollbacks()  # The incidents that begin branches 1, 2, …
        self.history = self._history(len(self.rollbacks))
        self.steps_done = int(
            self.last["to"] if rolls_back(self.last) else self.last.get("step", 0)
        )
        if not 0 <= self.steps_done - self.first <= self._end // _SMALLEST:
            raise FormatInvalid(
                path=self.path,
                detail=f"ends at step {self.steps_done}, but is too short for that step",
            )

    def step(self, number: int) -> dict[str, Any]:
        """The entry of a step; the genesis for the very first state. Raises StepUnknown."""
        if number == self.first:
            return self.genesis
        for body in self.between(number, number):
            if body["kind"] == "step":
                return body
        raise self.unknown(number)

    def unknown(self, number: int) -> StepUnknown:
        """The error for a step that is not there."""
        detail = f"the ledger goes from step {self.first} to step {self.steps_done}"
        return StepUnknown(what=f"Step {number}", detail=detail)

    def between(self, first: int, last: int) -> Iterator[dict[str, Any]]:
        """Every entry of the steps first..last, in order, that no rollback abandoned. The
        genesis is of the first state."""
        yield from self.along(self.history, first, min(last, self.steps_done))

    def along(self, history: History, first: int, last: int) -> Iterator[dict[str, Any]]:
        """Every entry of the steps first..last, in order, of a run that has this history."""
        for span, end in history.ends(last):
            yield from self._of_branch(
                span.branch, max(first, span.after + (span.branch > 0)), min(last, end)
            )

    def abandoned(self, rollback: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Every entry that an incident abandoned, in order, the incident itself left out."""
        for span, end in self.before(rollback).ends(rollback["step"]):
            yield from self._of_branch(span.branch, max(rollback["to"], span.after) + 1, end)

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        """Every entry of a kind that is rare (validation, checkpoint) and that no
        rollback abandoned, in one pass."""
        return [body for body in self.every(kind) if self.kept(body)]

    def every(self, *kinds: str) -> Iterator[dict[str, Any]]:
        """Every entry of kinds that are rare, abandoned or not, in one pass."""
        mark = re.compile(b"|".join(f'"kind":"{kind}"'.encode() for kind in kinds))
        for block in self._blocks():
            at = 0
            while match := mark.search(block, at):
                start = block.rfind(b"\n", 0, match.start()) + 1
                at = block.find(b"\n", match.end()) + 1 or len(block)
                if (body := self._body(block[start:at]))["kind"] in kinds:
                    yield self._sound(body)

    def _blocks(self) -> Iterator[bytes]:
        """The file in pieces of whole lines. A line that is longer than any entry may be cut."""
        offset = 0
        while offset < self._end:
            self._file.seek(offset)
            block = self._file.read(min(_BLOCK, self._end - offset))
            block = block[: block.rfind(b"\n") + 1] or block
            if not block:  # The file has become shorter.
                return
            offset += len(block)
            yield block

    def kept(self, body: dict[str, Any]) -> bool:
        """Whether no rollback abandoned an entry."""
        return self.history.at(body["step"]).branch == body.get("branch", 0)

    def _rollbacks(self) -> list[dict[str, Any]]:
        incidents = []
        for branch in range(1, int(self.last.get("branch", 0)) + 1):
            incident = next(self._from((branch, -1)), {})
            if not rolls_back(incident) or incident["branch"] != branch or branch > _MOST_ROLLBACKS:
                raise FormatInvalid(
                    path=self.path, detail=f"has no incident at the start of branch {branch}"
                )
            sound = self.first <= incident["to"] <= incident["step"]
            if not sound or incident["passed_over"] > self._end // _SMALLEST:
                target = f"to step {incident['to']}, {incident['passed_over']} batches passed over"
                origin = f"begins branch {branch} with a rollback after step {incident['step']}"
                detail = f"{origin} that is impossible ({target})"
                raise FormatInvalid(path=self.path, detail=detail)
            incidents.append(incident)
        return incidents

    def before(self, rollback: dict[str, Any]) -> History:
        """The history that an incident ended."""
        return self._history(rollback["branch"] - 1)

    def _history(self, branch: int) -> History:
        """The history of the run as it was in a branch."""
        history = History.begun(self.first)
        for incident in self.rollbacks[:branch]:
            history = history.rolled_back(incident)
        return history

    def _of_branch(self, branch: int, first: int, last: int) -> Iterator[dict[str, Any]]:
        """The entries of a branch's steps first..last, in order, without
        the incident that begins it."""
        for body in self._from((branch, first)):
            if _place(body) > (branch, last):
                return
            yield body

    def _from(self, place: tuple[int, int]) -> Iterator[dict[str, Any]]:
        """The entries from the first at or after a place on."""
        offset = self._offset_of(place)
        while offset < self._end:
            line = self._file_line(offset)
            body = self._body(line)
            if _place(body) >= place:
                yield self._sound(body)
            offset += len(line)

    def _offset_of(self, place: tuple[int, int]) -> int:
        """Where a line begins at or before the first entry of a place."""
        low, high = 0, self._end  # The line at low is before the place, or is the first.
        while high - low > 4096:
            middle = (low + high) // 2
            self._file.seek(middle)
            start = middle + len(self._file.readline(chain.MAX_LINE))
            if start >= high or _place(self._body(self._file_line(start))) >= place:
                high = middle
            else:
                low = start
        return low

    def _file_line(self, offset: int) -> bytes:
        self._file.seek(offset)
        return self._file.readline(chain.MAX_LINE)

    def _last_line_end(self) -> int:
        size = self._file.seek(0, 2)
        tail = self._tail(size, 1)
        return size - (len(tail) - (tail.rfind(b"\n") + 1))

    def _line_before(self, end: int) -> bytes:
        return self._tail(end, 2).removesuffix(b"\n").rpartition(b"\n")[2] + b"\n"

    def _tail(self, end: int, breaks: int) -> bytes:
        """What stands before end, with so many line breaks in it where a line's length allows."""
        length = 4096
        while True:
            self._file.seek(max(0, end - length))
            tail = self._file.read(min(length, end))
            if tail.count(b"\n") >= breaks or length >= min(chain.MAX_LINE, end):
                return tail
            length *= 4

    def _sound(self, body: dict[str, Any]) -> dict[str, Any]:
        if wrong := verdict.malformed(body):
            place = (
                f"{body['kind'][:40]} of step {body.get('step', 0)}, n {str(body.get('n'))[:20]}"
            )
            raise FormatInvalid(
                path=self.path, detail=f"has a malformed entry, {place}: {wrong[0]}"
            )
        return body

    def _body(self, line: bytes) -> dict[str, Any]:
        if body := entries.step_of(line):
            return body
        body, problem = chain.parse(line)
        if not problem and not isinstance(body.get("kind"), str):
            problem = "has no kind"
        if not problem and any(type(body.get(name, 0)) is not int for name in ("step", "branch")):
            problem = "has a step or a branch that is no number"
        if problem:
            detail = f"has an unreadable entry, n {str(body.get('n'))[:20]}: it {problem}"
            raise FormatInvalid(path=self.path, detail=detail)
        return body


def _place(body: dict[str, Any]) -> tuple[int, int]:
    """Branch and step: they ascend through the file. The incident that begins
    a branch is its first entry."""
    return body.get("branch", 0), -1 if rolls_back(body) else body.get("step", 0)
