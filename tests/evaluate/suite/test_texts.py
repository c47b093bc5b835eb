"""Bits per byte by source and length."""

from __future__ import annotations

import math
from typing import cast

import pytest

from pellucid.evaluate.suite import texts
from pellucid.evaluate.task import Task
from pellucid.record.requests import Rolling

DOCUMENTS = [
    ("books", "a", "x" * 100),
    ("books", "b", "é" * 1000),  # 2,000 bytes.
    ("code/c", "c", "y" * 5000),
    ("code/c", "empty", ""),
    ("code/c", "d", "z" * 40_000),
]


def nats(bits: float, task: Task) -> list[float]:
    """Of a model that spends so many bits on each byte."""
    asked = (cast(Rolling, example.request) for example in task.examples)
    sizes = (len(request.text.encode()) for request in asked)
    return [-bits * math.log(2) * size for size in sizes]


def test_every_character_is_asked_once() -> None:
    task = texts.validation(DOCUMENTS)
    requests = [example.request for example in task.examples]
    assert all(isinstance(request, Rolling) and request.text for request in requests)
    whole = "".join(request.text for request in requests if isinstance(request, Rolling))
    assert whole == "".join(text for _, _, text in DOCUMENTS)
    assert max(len(r.text) for r in requests if isinstance(r, Rolling)) == texts.PIECE
    names = [example.name for example in task.examples]
    assert len({*names}) == len(names) == 5


def test_rows_are_of_sources_and_lengths() -> None:
    task = texts.validation(DOCUMENTS)
    rows = texts.table(task.examples, nats(3.0, task))
    assert [(row.group, row.documents, row.bytes) for row in rows] == [
        ("all", 4, 47_100),
        ("source books", 2, 2_100),
        ("source code/c", 2, 45_000),
        ("length below 1 KiB", 1, 100),
        ("length 1 to 4 KiB", 1, 2_000),
        ("length 4 to 16 KiB", 1, 5_000),
        ("length 16 to 64 KiB", 1, 40_000),  # Two pieces of one document.
    ]
    assert all(row.bits_per_byte == pytest.approx(3) for row in rows)
    assert [row.interval is None for row in rows] == [False, False, False, True, True, True, True]


def test_bytes_weigh_and_not_documents() -> None:
    task = texts.validation(DOCUMENTS[:2])
    rows = texts.table(task.examples, [-100 * math.log(2), -4000 * math.log(2)])
    assert rows[0].bits_per_byte == pytest.approx(4100 / 2100)
    assert rows[0].interval and rows[0].interval.low < 4100 / 2100 < rows[0].interval.high


def test_two_documents_of_one_name_are_two() -> None:
    task = texts.validation([("a", "same", "x"), ("a", "same", "y"), ("a", "z" * 300, "z")])
    assert len({example.cluster for example in task.examples}) == 3
    assert all(len(example.cluster) <= 200 for example in task.examples)


def test_an_answer_that_is_missing_is_noticed() -> None:
    task = texts.validation(DOCUMENTS)
    with pytest.raises(ValueError, match="shorter"):
        texts.table(task.examples, [-1.0])
