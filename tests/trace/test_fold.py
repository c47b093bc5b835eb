"""Folding of case and white space: as a regular expression finds it."""

from __future__ import annotations

import re

import pytest

from pellucid.errors import QueryEmpty
from pellucid.trace.where import Traced
from tests.trace.conftest import Scanned, places


def lower(text: str) -> str:
    return "".join(one.lower() if len(one.lower()) == 1 else one for one in text)


@pytest.mark.parametrize("query", ["THE River", "tHe", "NAÏVE", "Aaaa"])
def test_case_is_folded(traced: Traced, scanned: Scanned, query: str) -> None:
    expected = [
        (name, found.start())
        for name, text in zip(scanned.ids, scanned.texts, strict=True)
        for found in re.finditer(f"(?={re.escape(lower(query))})", lower(text))
    ]
    answer = traced.where(query, limit=None, ignore_case=True)
    assert (answer["count"], places(answer)) == (len(expected), expected)
    assert expected or query == "Aaaa"


@pytest.mark.parametrize("query", ["aaaa aaaa", "aaaa\naaaa", "  the\triver ", "café 東京"])
def test_white_space_is_folded(traced: Traced, scanned: Scanned, query: str) -> None:
    pattern = r"\s+".join(map(re.escape, query.split()))
    expected = [
        (name, found.start())
        for name, text in zip(scanned.ids, scanned.texts, strict=True)
        for found in re.finditer(f"(?={pattern})", text)
    ]
    answer = traced.where(query, limit=None, fold_space=True)
    assert (answer["count"], places(answer)) == (len(expected), expected)
    assert expected


def test_both_together_and_neither(traced: Traced) -> None:
    folded = traced.where("THE   RIVER", ignore_case=True, fold_space=True)["count"]
    assert folded == traced.where("the river")["count"] > 0
    assert traced.where("THE   RIVER")["count"] == 0
    assert traced.where("never heard of", ignore_case=True)["count"] == 0
    assert traced.where(b"\xff", ignore_case=True)["count"] == 0


def test_white_space_alone_is_nothing_once_it_is_folded(traced: Traced) -> None:
    with pytest.raises(QueryEmpty):
        traced.where(" \n", fold_space=True)
