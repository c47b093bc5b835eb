"""Asking a ledger on disk about a step without reading all of it.

Steps ascend in the file, so a step is found by bisection over byte offsets. What is read here is not
checked against the chain: `pellucid verify` does that.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from pellucid.errors import FormatInvalid, FormatTooNew, NotTrained, StepUnknown
from pellucid.record import chain, entries, verdict
from pellucid.store import files, layout


_SMALLEST = 64  # Bytes: no entry is shorter, for `prev` is in it.


class LedgerFile:
    """A ledger opened for questions. Raises NotTrained where there is none yet, FormatInvalid, FormatTooNew."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / layout.LEDGER
        if not self.path.is_file() or not self.path.stat().st_size:
            raise NotTrained(path=folder, detail="its ledger is empty")
        with files.named_errors(self.path, "read"):
            self._file: BinaryIO = self.path.open("rb")
        self._end = self._last_line_end()
        if not self._end:
            raise NotTrained(path=folder, detail="its ledger is empty")
        self.genesis = self._body(self._file_line(0))
        if self.genesis.get("kind") != "genesis":
            raise FormatInvalid(path=self.path, detail="does not begin with a genesis")
        if self.genesis.get("format") != entries.FORMAT:
            raise FormatTooNew(path=self.path, found=self.genesis.get("format"), known=entries.FORMAT)
        self._sound(self.genesis)
        last = self._line_before(self._end)
        self.head = chain.digest_of(last)
        self.last = self._body(last)
        self.steps_done = int(self.last.get("step", 0))
        self.ended = self.last["kind"] == "end"
        if not 0 <= self.steps_done <= self._end // _SMALLEST:
            raise FormatInvalid(path=self.path, detail=f"ends at step {self.steps_done}, and is too short for that")

    def step(self, number: int) -> dict[str, Any]:
        """The entry of a step; the genesis for step 0. Raises StepUnknown."""
        if number == 0:
            return self.genesis
        for body in self.between(number, number):
            if body["kind"] == "step":
                return body
        detail = f"its ledger goes from step 0 to step {self.steps_done}"
        raise StepUnknown(what=f"Step {number}", detail=detail)

    def between(self, first: int, last: int) -> Iterator[dict[str, Any]]:
        """Every entry of the steps first..last, in order (the genesis counts as step 0)."""
        offset = self._offset_of(first)
        while offset < self._end:
            line = self._file_line(offset)
            body = self._body(line)
            if body.get("step", 0) > last:
                return
            if body.get("step", 0) >= first:
                yield self._sound(body)
            offset += len(line)

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        """Every entry of a kind that is rare (validation, checkpoint): scanned for, in one pass."""
        mark, found = f'"kind":"{kind}"'.encode(), []
        self._file.seek(0)
        while self._file.tell() < self._end and (line := self._file.readline(chain.MAX_LINE)):
            if mark in line:
                found.append(self._sound(self._body(line)))
        return found

    def _offset_of(self, step: int) -> int:
        """Where a line begins at or before the first entry of a step."""
        low, high = 0, self._end  # The line at low is before the step, or is the first.
        while high - low > 4096:
            middle = (low + high) // 2
            self._file.seek(middle)
            start = middle + len(self._file.readline(chain.MAX_LINE))
            if start >= high or self._body(self._file_line(start)).get("step", 0) >= step:
                high = middle
            else:
                low = start
        return low

    def _file_line(self, offset: int) -> bytes:
        self._file.seek(offset)
        return self._file.readline(chain.MAX_LINE)

    def _last_line_end(self) -> int:
        size = self._file.seek(0, 2)
        self._file.seek(max(0, size - chain.MAX_LINE))
        tail = self._file.read(chain.MAX_LINE)
        return size - (len(tail) - (tail.rfind(b"\n") + 1))

    def _line_before(self, end: int) -> bytes:
        start = max(0, end - chain.MAX_LINE)
        self._file.seek(start)
        return self._file.read(end - start).removesuffix(b"\n").rpartition(b"\n")[2] + b"\n"

    def _sound(self, body: dict[str, Any]) -> dict[str, Any]:
        if wrong := verdict.malformed(body):
            where = f"{body['kind']} of step {body.get('step', 0)}"
            raise FormatInvalid(path=self.path, detail=f"has an entry, {where}, that is malformed: {wrong[0]}")
        return body

    def _body(self, line: bytes) -> dict[str, Any]:
        try:
            body = json.loads(line)
            if not isinstance(body["kind"], str) or type(body.get("step", 0)) is not int:
                raise ValueError("an entry has a kind and a step")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise FormatInvalid(path=self.path, detail=f"has an entry that cannot be read ({error})") from error
        return body
