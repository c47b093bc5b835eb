"""Checking an index: that it leaves out nothing and finds everything, given
the tokens and the vocabulary.

An order of suffixes is right when of each two neighbours the first comes first: where they begin
alike with the same token, when what follows that token in the one comes before what follows it in
the other, which the order itself tells; where they begin with different tokens, when their bytes
say so, up to the first place at which a token ends in both. What is told of a shorter text is right
before that of a longer one, so all of it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pellucid.data import stage
from pellucid.data.parquet import Documents
from pellucid.data.streams import Shards
from pellucid.data.tokenizer import Tokenizer
from pellucid.record.verdict import Problem
from pellucid.store import fields, layout
from pellucid.trace import index, pieces
from pellucid.trace.build import EVERY, Builder, before_of, keys_of, path
from pellucid.trace.suffixes import Suffixes, TextSuffixes, TokenSuffixes

_AT_ONCE = 1 << 20


def check(folder: Path) -> Iterator[Problem]:
    """Everything in the index of a run that is not as its documents and tokens have it.

    Raises FormatInvalid where a file does not have the form it should.
    """
    manifest = folder / layout.TRACE / stage.MANIFEST
    if not manifest.exists():
        yield Problem(
            "FileMissing",
            f"{layout.TRACE}/{stage.MANIFEST}",
            "is missing, but files of an index exist",
        )
        return
    tokenizer = Tokenizer.load(folder / layout.TOKENIZER)
    opened = pieces.opened(folder, Shards.open(folder), tokenizer)
    kinds = [
        "text" if isinstance(piece.suffixes, TextSuffixes) else "tokens" for piece in opened.pieces
    ]
    if detail := fields.difference(manifest, index.manifest(folder, kinds)):
        yield Problem("DataDiffers", f"{layout.TRACE}/{stage.MANIFEST}", detail)
    builder = Builder(folder / layout.TRACE, Documents.open(folder), tokenizer)
    for placed in opened.pieces:
        suffixes = placed.suffixes
        for kind, detail in _piece(suffixes, builder):
            yield Problem(
                "DataDiffers", str(path(folder / layout.TRACE, suffixes.piece.number, kind)), detail
            )


def _piece(suffixes: Suffixes, builder: Builder) -> Iterator[tuple[str, str]]:
    """What is wrong with a piece: the kind of the file, and how."""
    text = builder.text(suffixes.piece, suffixes.shard)
    if isinstance(suffixes, TokenSuffixes) and not suffixes.counted():
        yield "counts", "does not count the tokens of its documents"
    if isinstance(suffixes, TokenSuffixes) and not suffixes.words.spell(suffixes.atoms, text):
        yield "positions", "its tokens are not those of its documents' texts"
        return
    if isinstance(suffixes, TextSuffixes) and not np.array_equal(suffixes.text, text):
        yield "text", "is not the text of its documents"
    if isinstance(suffixes, TextSuffixes) and not np.array_equal(
        suffixes.starts, builder.starts(suffixes.piece, suffixes.shard, text)
    ):
        yield "starts", "is not where its documents' tokens begin"
    rank = _ranks(suffixes)
    if rank is None:
        yield "positions", "does not have every suffix once"
        return
    wrong = _misplaced(suffixes, rank)
    if wrong is not None:
        yield "positions", f"its suffix {wrong} does not come before the next"
    yield from _tables(suffixes, text)


def _tables(suffixes: Suffixes, text: np.ndarray) -> Iterator[tuple[str, str]]:
    """What is wrong with the tables that stand beside the order of a piece."""
    order = suffixes.positions.between(0, suffixes.size)
    starts = order[::EVERY].astype(np.int64)
    if isinstance(suffixes, TokenSuffixes):
        lengths = suffixes.words.lengths[suffixes.atoms]
        starts = (np.cumsum(lengths) - lengths)[starts]
        if not np.array_equal(suffixes.before, before_of(suffixes.words, suffixes.atoms, order)):
            yield "before", "is not what stands before its suffixes"
    keys = keys_of(text, starts)
    if not np.array_equal(suffixes.keys, keys):
        yield "keys", "is not what its suffixes begin with"
    if b"".join(suffixes.top) != keys[::EVERY].tobytes():
        yield "top", "is not what its suffixes begin with"


def _ranks(suffixes: Suffixes) -> np.ndarray | None:
    """For each position the place of its suffix in the order, and -1 for the end, which comes
    before all; None where a position is missing."""
    rank = np.full(suffixes.size + 1, -1, np.int64)
    for low in range(0, suffixes.size, _AT_ONCE):
        positions = suffixes.positions.between(low, min(low + _AT_ONCE, suffixes.size))
        rank[positions] = np.arange(low, low + len(positions))
    return None if (rank[:-1] < 0).any() else rank


def _misplaced(suffixes: Suffixes, rank: np.ndarray) -> int | None:
    """The first suffix that does not come before its neighbour; None where all do."""
    for low in range(0, suffixes.size - 1, _AT_ONCE):
        high = min(low + _AT_ONCE + 1, suffixes.size)
        near = suffixes.positions.between(low, high).astype(np.int64)
        a, b = near[:-1], near[1:]
        alike = suffixes.atoms[a] == suffixes.atoms[b]
        right = rank[a + 1] < rank[b + 1]
        for place in np.flatnonzero(~alike).tolist():
            right[place] = _before(suffixes, rank, int(a[place]), int(b[place]))
        if not right.all():
            return low + int(np.flatnonzero(~right)[0])
    return None


def _before(suffixes: Suffixes, rank: np.ndarray, a: int, b: int) -> bool:
    """Whether the suffix at a comes before that at b, which begins with another token."""
    left, right = suffixes.text_at(a, 1), suffixes.text_at(b, 1)
    while True:
        size = min(len(left), len(right))
        if left[:size] != right[:size]:
            return left[:size] < right[:size]
        left, right = left[size:], right[size:]
        a, b = a + (not left), b + (not right)
        if not left and not right:  # A token ends in both: the order tells of what follows.
            return bool(rank[a] < rank[b])
        if not left:
            left = suffixes.text_at(a, 1)
            if not left:
                return True  # The first one's text has ended.
        else:
            right = suffixes.text_at(b, 1)
            if not right:
                return False
