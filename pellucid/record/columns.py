"""Step entries that follow one another, read together as columns: a million
of them are checked in seconds.

Nearly all lines of a ledger are steps, and neighbours have the same length, so that each field of
theirs stands in the same bytes. A stretch of such lines is a table of bytes, and what `chain.read`
asks of each line (its spelling, its fields, its number, the hash of the line before it, the root
over all before it) is asked of whole columns. Only what is right goes in here; whatever is not, and
every other line, is read by `chain.read`, which says what is wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np

from pellucid.record import chain, entries, merkle
from pellucid.record.chain import Entry, LedgerTip

_FEWEST = 8  # Lines: fewer are read one by one.
_HEX = np.full(256, 255, np.uint8)  # The value of a digit in lower case; 255 is none.
_HEX[[*b"0123456789abcdef"]] = range(16)


class Steps:
    """Consecutive entries of consecutive steps of one branch, sound in
    themselves and chained to each other.

    first: the first's step. Columns have the shape (N,): tokens is uint64;
    floats(field) are float64."""

    def __init__(self, rows_NL: np.ndarray, digests: list[bytes]) -> None:
        head = entries.step_fields(rows_NL[0].tobytes())
        assert head is not None, "columns are made of step entries"
        self._rows_NL, self._digests = rows_NL, digests
        self._spans = {name: head.span(name) for name in head.groupdict()}
        self.first, self.n = int(head["step"]), int(head["n"])
        self.branch, self.head = int(head["branch"] or 0), digests[-1].hex()

    def __len__(self) -> int:
        return len(self._rows_NL)

    @property
    def tokens(self) -> np.ndarray:
        return _decimal(self._rows_NL[:, slice(*self._spans["tokens"])])

    def floats(self, field: str) -> np.ndarray:
        nibbles = _HEX[self._rows_NL[:, slice(*self._spans[field])]]
        return (
            np.ascontiguousarray(nibbles[:, ::2] << 4 | nibbles[:, 1::2])
            .view(">f8")[:, 0]
            .astype(np.float64)
        )

    def entries(self, start: int) -> Iterator[Entry]:
        """Those from the start-th on, one by one."""
        for index in range(start, len(self)):
            body = entries.step_of(self._rows_NL[index].tobytes())
            assert body is not None, "every row was held against the first"
            yield Entry(self.n + index, self._digests[index].hex(), body, None, known=True)


def read(blocks: Iterable[bytes], tip: LedgerTip) -> Iterator[Entry | Steps]:
    """As chain.read, of blocks of whole lines of a ledger, with step entries taken
    together where they can be."""
    for block in blocks:
        for lines in _of_one_length(block):
            if len(lines) >= _FEWEST and (steps := _steps(lines, tip)):
                lines = lines[len(steps) :]
                yield steps
            # Where one is not sound all after it are read alone: trying again after each
            # would take the square of time.
            yield from chain.read((line.tobytes() for line in lines), tip, entries.step_of)


def _of_one_length(block: bytes) -> Iterator[np.ndarray]:
    """Neighbouring lines of one length, shape (N, L) with their line breaks, in order; a
    rest without a break alone."""
    content = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(content == 10) + 1
    if not len(ends) or ends[-1] < len(content):
        ends = np.append(ends, len(content))
    lengths = np.diff(ends, prepend=0)
    cuts = [0, *(np.flatnonzero(np.diff(lengths)) + 1).tolist(), len(lengths)]
    for start, stop in pairwise(cuts):
        begin, end = int(ends[start] - lengths[start]), int(ends[stop - 1])
        yield content[begin:end].reshape(stop - start, -1)


def _steps(rows_NL: np.ndarray, tip: LedgerTip) -> Steps | None:
    """The first rows, as many as are sound and go on from a tip, which goes along;
    None where the first does not."""
    first = rows_NL[0].tobytes()
    head = entries.step_fields(first)
    if head is None or tip.wrong(first):
        return None
    written = {"n": entries.DECIMAL, "step": entries.DECIMAL, **entries.STEP}
    if tip.lost:  # Else it is held against the root, as `prev` always is against the line before.
        written["log"] = entries.DIGEST
    sound_N = _alike(rows_NL, {name: head.span(name) for name in head.groupdict()}, written)
    for name in ("n", "step"):
        counted_N = _decimal(rows_NL[:, slice(*head.span(name))])
        sound_N &= counted_N == int(head[name]) + np.arange(len(rows_NL), dtype=np.uint64)
    rows_NL = rows_NL[: _leading(sound_N)]
    content, size, sha256 = rows_NL.tobytes(), rows_NL.shape[1], hashlib.sha256
    lines = [content[start : start + size - 1] for start in range(0, len(content), size)]
    digests = [sha256(line).digest() for line in lines]
    count = 1 + _leading(_says(rows_NL[1:], head.span("prev"), digests[:-1]))
    tree = tip.tree.copy()
    if not tip.lost:
        leaves = merkle.leaves(lines[:count])
        if (
            logged := _leading(_says(rows_NL[:count], head.span("log"), tree.roots(leaves)))
        ) < count:
            count, tree = logged, tip.tree.copy()
            tree.extend(leaves[:count])
    tip.take_all(digests[:count], tree)
    return Steps(rows_NL[:count], digests[:count])


def _says(rows_NL: np.ndarray, span: tuple[int, int], digests: list[bytes]) -> np.ndarray:
    """Which rows have these digests in a field, one each, shape (N,) bool."""
    expected = np.frombuffer(b"".join(digests).hex().encode(), np.uint8).reshape(-1, 64)
    return (rows_NL[:, slice(*span)] == expected).all(axis=1)


def _alike(
    rows_NL: np.ndarray, spans: dict[str, tuple[int, int]], written: dict[str, str]
) -> np.ndarray:
    """Which rows are spelled as the first, which is a step's, but for the values of their fields,
    and have these of them written so, shape (N,) bool."""
    sound_NL = rows_NL == rows_NL[0]
    for name in ("prev", "n", "log", "step", *entries.STEP):
        value_ND, sound_ND = (array[:, slice(*spans[name])] for array in (rows_NL, sound_NL))
        form = written.get(name)
        if form is None:
            sound_ND[:] = True
            continue
        np.less(value_ND - np.uint8(ord("0")), 10, out=sound_ND)
        if form == entries.DECIMAL:
            sound_ND[:, 0] &= value_ND[:, 0] != ord("0")
        else:
            sound_ND |= value_ND - np.uint8(ord("a")) < 6
        if form == entries.FLOAT:  # An exponent of all ones would be an infinity or a NaN.
            ones_N = (value_ND[:, 1] == ord("f")) & (value_ND[:, 2] == ord("f"))
            sound_ND[:, 0] &= ~(ones_N & np.isin(value_ND[:, 0], [ord("7"), ord("f")]))
    return sound_NL.all(axis=1)


def _decimal(digits_ND: np.ndarray) -> np.ndarray:
    """The numbers that ASCII digits write, at most 19 each, as uint64;
    any bytes give some number."""
    powers_D = 10 ** np.arange(digits_ND.shape[1] - 1, -1, -1, dtype=np.uint64)
    return ((digits_ND - np.uint8(48)).astype(np.uint64) * powers_D).sum(axis=1, dtype=np.uint64)


def _leading(sound_N: np.ndarray) -> int:
    """How many are True before the first that is not."""
    return len(sound_N) if sound_N.all() else int(sound_N.argmin())
