"""Charts are sound XML of any numbers and names, and their axes have round numbers."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pellucid.report.chart import (
    COLOURS,
    WIDTH,
    Chart,
    Level,
    Line,
    alone,
    described,
    number,
    svg,
    ticks,
)
from tests.site.conftest import HOSTILE

finite = st.floats(allow_nan=False, allow_infinity=False)
points = st.lists(st.tuples(st.integers(0, 2**40).map(float), finite), max_size=60)


@example([], [1.7e308])
@example([("a", [(0.0, -1.7e308), (1.0, 1.7e308)])], [])
@given(st.lists(st.tuples(st.text(max_size=50), points), max_size=12), st.lists(finite, max_size=5))
def test_any_numbers_give_sound_xml(lines: list[tuple[str, list]], levels: list[float]) -> None:
    drawn = [Line(name, own, [(x, y, y) for x, y in own]) for name, own in lines]
    chart = Chart("a", "b", drawn, [Level("gzip", level) for level in levels], [1.0])
    root = ElementTree.fromstring(alone(chart))
    drawn_at = " ".join(one.get("d", "") for one in root.iter())
    assert root.tag.endswith("svg") and not re.search("inf|nan", drawn_at)
    assert len(root.findall("{*}path[@class='grid']")) >= 1


@given(finite, finite)
def test_ticks_are_round_and_inside(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    found = ticks(low, high)
    room = abs(high - low) * 1e-6 if math.isfinite(high - low) else 0
    assert 1 <= len(found) <= 7
    assert all(low - room <= value <= high + room for value in found)


def test_ticks_of_plain_numbers() -> None:
    assert ticks(0, 10) == [0, 2, 4, 6, 8, 10]
    assert ticks(1.21, 1.38) == pytest.approx([1.25, 1.3, 1.35])
    assert ticks(5, 5) == [5]


def test_names_are_text() -> None:
    chart = Chart(HOSTILE[1], HOSTILE[2], [Line(name, [(1.0, 2.0)]) for name in HOSTILE])
    root = ElementTree.fromstring(alone(chart))
    assert {one.tag.rpartition("}")[2] for one in root.iter()} == {
        *("svg", "style", "rect", "text", "path", "circle")
    }
    assert root.find(".//*[@onerror]") is None


def test_a_chart_is_told_in_words() -> None:
    lines = [Line("model", [(0.0, 8.0), (900.0, 1.25)])]
    chart = Chart("Validation", "bits per byte", lines, [Level("xz", 1.5)])
    assert described(chart) == (
        "Validation, bits per byte by step. model: 8 at step 0, 1.25 at step 900. xz: 1.5."
    )
    assert 'role="img"' in svg(chart) and "8 at step 0" in svg(chart)


def test_lines_lie_where_their_values_are() -> None:
    chart = Chart("a", "b", [Line("x", [(0.0, 0.0), (10.0, 10.0)])])
    (path,) = re.findall(r'class="line c0" d="M(46 [^"]+)"', svg(chart))
    (x0, y0), (x1, y1) = zip(*[iter(map(float, path.split()))] * 2, strict=True)
    assert (x0, x1) == (46, 350) and y0 > y1


def test_lines_beyond_the_colours_have_dashes() -> None:
    lines = [Line(str(n), [(0.0, 0.0), (1.0, float(n))]) for n in range(COLOURS + 1)]
    assert 'class="line c0 d1"' in svg(Chart("a", "b", lines))


@pytest.mark.parametrize(
    ("value", "text"),
    [(1234567.0, "1,234,567"), (900, "900"), (1.26571, "1.266"), (1e300, "1e+300")],
)
def test_numbers_have_few_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_a_long_title_ends_with_an_ellipsis_inside_of_the_picture() -> None:
    title = "arc_challenge (25 shots, lm-eval 0.4.13, content 0123abcd, revision 89abcdef)"
    root = ElementTree.fromstring(alone(Chart(title, "acc", [])))
    shown = root.findtext("{*}text[@class='title']")
    assert shown is not None and shown.endswith("…") and title.startswith(shown[:-1])
    assert 6 + len(shown) * 7 < WIDTH, "letters of this size are about 7 wide"
    assert title in described(Chart(title, "acc", []))


def test_a_single_step_has_its_interval_as_a_bar_and_is_told_once() -> None:
    chart = Chart("a", "acc", [Line("r1", [(20.0, 0.5)], [(20.0, 0.25, 0.75)])])
    (bar,) = re.findall(r'class="line c0" d="M([0-9.]+) ([0-9.]+)V([0-9.]+)"', svg(chart))
    (dot,) = re.findall(r'class="dot c0" cx="([0-9.]+)" cy="([0-9.]+)"', svg(chart))
    assert bar[0] == dot[0] and float(bar[1]) > float(dot[1]) > float(bar[2])
    assert float(bar[1]) - float(bar[2]) > 100, "the axis is as long as what is drawn"
    assert described(chart) == "a, acc by step. r1: 0.5 at step 20."
