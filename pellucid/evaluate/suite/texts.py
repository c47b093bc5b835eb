"""Bits per byte of a run's own validation documents, by source and by length."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pellucid.evaluate.suite.base import made
from pellucid.evaluate.task import Task
from pellucid.measured.clusters import clusters_of
from pellucid.measured.intervals import Interval, of_rate
from pellucid.record.requests import Example, Rolling

PIECE = 1 << 15  # Characters: a longer document is asked in pieces, which its line can hold.
# A model that gives each of the 256 bytes the same probability.
UNIFORM = 8.0
_LENGTHS = (
    *((1 << 10, "below 1 KiB"), (4 << 10, "1 to 4 KiB"), (16 << 10, "4 to 16 KiB")),
    *((64 << 10, "16 to 64 KiB"), (1 << 62, "64 KiB or more")),
)


class Row(NamedTuple):
    """Of some of the documents."""

    group: str  # "all", "source NAME" or "length RANGE".
    documents: int
    bytes: int
    bits_per_byte: float
    interval: Interval | None  # Of documents like these.


def validation(documents: Iterable[tuple[str, str, str]]) -> Task:
    """The task of these (source, document id, text). Empty texts are left out."""
    examples = list[Example]()
    for number, (source, document, text) in enumerate(documents):
        for place in range(0, len(text), PIECE):
            examples.append(
                Example(
                    f"{source}/{number}/{place // PIECE}",
                    Rolling(text[place : place + PIECE]),
                    None,
                    f"{number} {document}"[:200],  # Two long names may begin alike.
                )
            )
    return made("validation", 1, "bits_per_byte", UNIFORM, examples)


def table(examples: Sequence[Example], nats: Sequence[float]) -> list[Row]:
    """All documents, those of each source, and those of each length. nats: of each example the
    log-likelihood of its text."""
    lengths = dict[str, int]()
    for example in examples:
        lengths[example.cluster] = lengths.get(example.cluster, 0) + _bytes(example)
    groups = dict[str, list[tuple[Example, float]]]()
    for example, log in zip(examples, nats, strict=True):
        length = next(name for most, name in _LENGTHS if lengths[example.cluster] < most)
        source = example.name.rsplit("/", 2)[0]
        for group in ("all", f"source {source}", f"length {length}"):
            groups.setdefault(group, []).append((example, log))
    return [_row(group, groups[group]) for group in sorted(groups, key=_rank)]


def _rank(group: str) -> tuple[int, int, str]:
    names = [f"length {name}" for _, name in _LENGTHS]
    if group in names:
        return 2, names.index(group), ""
    return int(group != "all"), 0, group


def _row(group: str, asked: list[tuple[Example, float]]) -> Row:
    sizes = [float(_bytes(example)) for example, _ in asked]
    bits = [-log / math.log(2) for _, log in asked]
    clusters = clusters_of(example for example, _ in asked)
    value = math.fsum(bits) / math.fsum(sizes)
    interval = of_rate(bits, sizes, clusters)
    documents = len({example.cluster for example, _ in asked})
    return Row(group, documents, int(math.fsum(sizes)), value, interval)


def _bytes(example: Example) -> int:
    assert isinstance(example.request, Rolling)
    return len(example.request.text.encode("utf-8"))
