"""trace: exactly the spans that were seen, and only those seen by then."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.trace.spans import maximal
from pellucid.trace.where import Traced
from tests.trace.conftest import Scanned


def plainly(text: str, least: int, occurs: Callable[[str], bool]) -> list[tuple[int, int]]:
    """The maximal spans by trying all of them."""
    spans = [
        (a, b)
        for a in range(len(text))
        for b in range(a + least, len(text) + 1)
        if occurs(text[a:b])
    ]
    return [
        (a, b)
        for a, b in spans
        if not any(c <= a and b <= d and (a, b) != (c, d) for c, d in spans)
    ]


@settings(max_examples=300, deadline=None)
@given(
    text=st.text(alphabet="abc", max_size=40),
    seen=st.lists(st.text(alphabet="abc", max_size=25), max_size=5),
    least=st.integers(1, 6),
)
def test_maximal_spans_are_those_of_trying_all(text: str, seen: list[str], least: int) -> None:
    occurs: Callable[[str], bool] = lambda part: any(part in one for one in seen)  # noqa: E731
    assert list(maximal(text, least, occurs)) == plainly(text, least, occurs)


NOVEL = ["¤ ZQXJ KVWY never written ¤", "¤ QQZZ nowhere to be read ¤"]


def test_three_known_spans_between_two_novel_ones_are_found_and_no_other(
    traced: Traced, scanned: Scanned
) -> None:
    known = [scanned.texts[3][5:60], scanned.texts[11][20:90], scanned.texts[-2][30:80]]
    text = known[0] + NOVEL[0] + known[1] + NOVEL[1] + known[2]
    about = traced.trace(text)
    assert sorted(span["text"] for span in about["spans"]) == sorted(known)
    for span in about["spans"]:
        assert text[span["start"] : span["end"]] == span["text"]
        found = scanned.find(span["text"].encode())
        assert span["count"] == len(found)
        documents = [one["document"] for one in span["documents"]]
        assert documents == list(dict.fromkeys(name for name, _ in found))[:10]
    assert [span["count"] for span in about["spans"]] == sorted(
        span["count"] for span in about["spans"]
    )


def test_before_leaves_what_was_not_seen_by_then(traced: Traced, scanned: Scanned) -> None:
    known = [scanned.texts[3][5:60], scanned.texts[11][20:90], scanned.texts[-2][30:80]]
    text = known[0] + NOVEL[0] + known[1] + NOVEL[1] + known[2]
    for before in (1, 4, 12, 111):
        expected = [one for one in known if traced.where(one, before=before)["count"]]
        told = traced.trace(text, before=before, least=40)["spans"]
        assert [span["text"] for span in told if span["text"] in known] != [] or not expected
        assert {one for one in known if any(span["text"] == one for span in told)} == set(expected)
        assert all(time["step"] < before for span in told for time in span["steps"])
    assert traced.trace(text, before=1)["spans"] == []


def test_nothing_has_no_spans(traced: Traced) -> None:
    assert traced.trace("")["spans"] == []
