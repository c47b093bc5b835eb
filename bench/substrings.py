"""`where` beside a plain scan of the training texts: 1,000 substrings,
their counts and their positions.

    python bench/substrings.py [RUN] [--queries 1000] [--seed 1]

RUN, `demo` where none is named, has an index (`pellucid run RUN --only index`). The scan
is bytes.find over the documents of the train split, stepping by one byte, so that
overlapping occurrences count each. Up to 500 occurrences are all compared, by document and
offset; of more, 500 that `where` shows must be true ones, each shown once. The exit code
is 1 where anything differs."""

from __future__ import annotations

import argparse
import random
import re
import sys
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pellucid.data.parquet import Documents
from pellucid.data.tokenizer import Tokenizer
from pellucid.trace.where import Traced

MOST = 500  # Occurrences whose positions are all compared.
LONGEST = 2000  # Characters or bytes of a query.
BETWEEN = b"\xff"  # Stands in no UTF-8, so that no query is found across documents.
_BLOCK = 4096  # Bytes between two places whose number of characters is kept.
_RUNS = re.compile(rb"(.{1,3}?)\1{3,}", re.DOTALL)  # What overlaps itself.
_OTHERS = "aeiou 0=\n\0é界\U0001f600"


class Corpus:
    """The training texts as one byte string, and where each document begins."""

    def __init__(self, folder: Path) -> None:
        buffer, ids, starts = bytearray(), [], []
        for rows in Documents.open(folder).rows(["id", "text"], "train"):
            ids += rows.column("id").to_pylist()
            for text in rows.column("text").to_pylist():
                starts.append(len(buffer))
                buffer += text.encode() + BETWEEN
        self.text = bytes(buffer)
        self.bounds = [*starts, len(buffer)]
        self._number = {name: number for number, name in enumerate(ids)}
        inside = (np.frombuffer(self.text, np.uint8) & 0xC0) == 0x80
        self.inside = np.flatnonzero(inside)  # Bytes in the middle of a character.
        begun = np.add.reduceat(~inside, range(0, len(inside), _BLOCK), dtype=np.int64)
        # Characters before each block, separators included.
        self._begun = np.concatenate([[0], np.cumsum(begun)])

    @property
    def documents(self) -> int:
        return len(self._number)

    def document(self, number: int) -> bytes:
        """The UTF-8 of the train split's document with this number among them, in their order."""
        return self.text[self.bounds[number] : self.bounds[number + 1] - len(BETWEEN)]

    def count(self, query: bytes) -> int:
        """How often it occurs, overlapping occurrences each."""
        found, place = 0, self.text.find(query)
        while place >= 0:
            found, place = found + 1, self.text.find(query, place + 1)
        return found

    def beginning_at(self, query: bytes, document: str, offset: int) -> int:
        """How many occurrences begin in one character of a document: more than
        one for bytes inside it only."""
        start, end = (self.bounds[self._number[document] + more] for more in (0, 1))
        wanted = self._characters_before(start) + offset
        block = int(self._begun.searchsorted(wanted, side="right")) - 1
        first = block * _BLOCK + int(
            self._begins(block * _BLOCK, (block + 1) * _BLOCK)[wanted - self._begun[block]]
        )
        stop = first + 1
        while self.text[stop] & 0xC0 == 0x80:
            stop += 1
        return sum(
            self.text.startswith(query, place, end) for place in range(first, min(stop, end))
        )

    def _characters_before(self, place: int) -> int:
        block = place // _BLOCK
        return int(self._begun[block]) + len(self._begins(block * _BLOCK, place))

    def _begins(self, start: int, stop: int) -> np.ndarray:
        """Where characters begin in the bytes [start, stop), counted from start."""
        return np.flatnonzero((np.frombuffer(self.text[start:stop], np.uint8) & 0xC0) != 0x80)


class Drawn:
    """Queries of each kind from a corpus; short ones as often as long ones."""

    def __init__(self, corpus: Corpus, tokenizer: Tokenizer, chance: random.Random) -> None:
        self._corpus, self._tokenizer, self._chance = corpus, tokenizer, chance

    def characters(self) -> bytes:
        """A run of characters, in most cases cut through tokens."""
        text = self._some_text()
        start = self._chance.randrange(len(text))
        return text[start : start + self._length()].encode()

    def tokens(self) -> bytes:
        """Whole tokens, as a part of a document is cut into them."""
        text = self._some_text()
        spans = self._tokenizer.offsets(text)
        start = self._chance.randrange(len(spans))
        stop = min(len(spans), start + self._length(100))
        return text[spans[start][0] : spans[stop - 1][1]].encode()

    def inside_characters(self) -> bytes:
        """Bytes that begin or end in the middle of a character."""
        place, length = int(self._chance.choice(self._corpus.inside)), self._length()
        if self._chance.random() < 0.5:
            return self._corpus.text[place : place + length].split(BETWEEN)[0]
        return self._corpus.text[max(0, place - length) : place].split(BETWEEN)[-1]

    def overlapping(self) -> bytes:
        """A part of a run of one to three bytes again and again; of three, one
        with the byte before the run."""
        text = self._corpus.text
        run = _RUNS.search(text, self._chance.randrange(len(text))) or _RUNS.search(text)
        if run is None:
            return self.characters()
        before = self._chance.choice((0, 0, 1))
        start, length = run.start(), max(2, self._length(len(run.group())))
        return text[max(0, start - before) : start + length].split(BETWEEN)[-1]

    def across_documents(self) -> bytes:
        """A document's end and the beginning of the next."""
        number, length = self._chance.randrange(self._corpus.documents - 1), self._length()
        before, after = (self._corpus.document(one) for one in (number, number + 1))
        return before[-1 - length // 2 :] + after[: 1 + length // 2]

    def changed(self) -> bytes:
        """A run of characters with one of them changed."""
        text = self.characters().decode()
        place = self._chance.randrange(len(text))
        return (text[:place] + self._chance.choice(_OTHERS) + text[place + 1 :]).encode()

    def _some_text(self) -> str:
        """Part of a document, never empty; a document is as likely as it is long."""
        place = self._chance.randrange(len(self._corpus.text) - 1)
        parts = self._corpus.text[place : place + 4 * LONGEST].split(BETWEEN)
        return max(parts, key=len).decode(errors="ignore") or self._some_text()

    def _length(self, longest: int = LONGEST) -> int:
        return round(longest ** self._chance.random())


KINDS = {  # And the share of each among the queries.
    "characters": (Drawn.characters, 0.3),
    "whole tokens": (Drawn.tokens, 0.15),
    "cut inside characters": (Drawn.inside_characters, 0.2),
    "overlapping themselves": (Drawn.overlapping, 0.1),
    "across documents": (Drawn.across_documents, 0.1),
    "one character changed": (Drawn.changed, 0.15),
}


class Compared(NamedTuple):
    """What became of one query."""

    occurrences: int
    positions: int  # How many were compared.
    problem: str


def compared(corpus: Corpus, traced: Traced, query: bytes) -> Compared:
    expected, found = corpus.count(query), traced.where(query, limit=MOST)
    if found["count"] != expected:
        return Compared(expected, 0, f"counted {found['count']}, by the scan {expected}")
    # So many different ones that are all true: where no more occur, all of them.
    hits = Counter((hit["document"], hit["offset"]) for hit in found["hits"])
    if hits.total() != min(expected, MOST):
        return Compared(expected, 0, f"{hits.total()} hits shown of {expected}")
    for (document, offset), times in hits.items():
        if corpus.beginning_at(query, document, offset) < times:
            return Compared(expected, 0, f"shown at {document}, {offset}, where it does not begin")
    return Compared(expected, hits.total(), "")


def main() -> None:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("run", type=Path, nargs="?", default=Path("demo"))
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    started = time.perf_counter()
    corpus, traced = Corpus(options.run), Traced(options.run)
    drawn = Drawn(corpus, Tokenizer.load(options.run), random.Random(options.seed))
    size, several = len(corpus.text) - corpus.documents, len(corpus.inside)
    print(f"{options.run}: {corpus.documents:,} training documents, {size / 1e6:.1f} MB; ", end="")
    print(f"{several:,} bytes begin no character\n")
    print(
        f"{'queries':28}{'number':>8}{'present':>9}{'absent':>8}"
        f"{'occurrences':>14}{'positions':>11}{'wrong':>7}"
    )
    total = []
    for kind, (draw, share) in KINDS.items():
        number = (
            round(share * options.queries) if several or draw is not Drawn.inside_characters else 0
        )
        queries = [draw(drawn) for _ in range(number)]
        total += print_kind(kind, [(query, compared(corpus, traced, query)) for query in queries])
    print_kind("all", total)
    for query, result in [row for row in total if row[1].problem][:20]:
        print(f"WRONG: {query[:200]!r}: {result.problem}")
    print(f"in {time.perf_counter() - started:.0f} s")
    sys.exit(any(result.problem for _, result in total))


def print_kind(kind: str, results: list[tuple[bytes, Compared]]) -> list[tuple[bytes, Compared]]:
    """One line of the table; returns what it was given."""
    found = [result for _, result in results]
    present = sum(result.occurrences > 0 for result in found)
    counted, positions = (
        sum(result.occurrences for result in found),
        sum(result.positions for result in found),
    )
    wrong = sum(bool(result.problem) for result in found)
    figures = (
        f"{len(found):8}{present:9}{len(found) - present:8}{counted:14,}{positions:11,}{wrong:7}"
    )
    print(f"{kind:28}{figures}", flush=True)
    return results


if __name__ == "__main__":
    main()
