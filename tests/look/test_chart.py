"""Curves of characters."""

from __future__ import annotations

from pellucid.look.chart import chart


def test_a_falling_line_goes_from_corner_to_corner() -> None:
    lines = chart([(0, 3.0), (100, 1.0)], [], width=4, height=4)
    field = [line.split("│")[1] for line in lines[:4]]
    assert (
        field[0][0] != " "
        and field[3][3] != " "
        and field[0][1:].strip() == ""
        and field[3][:3].strip() == ""
    )
    assert lines[0].startswith("3 │") and lines[3].startswith("1 │") and lines[4] == "  └────"
    assert lines[5] == "   0100"


def test_marks_stand_above_the_curve_and_on_its_scale() -> None:
    lines = chart([(0, 2.0), (10, 2.0)], [(5, 4.0), (10, 2.0)], width=11, height=3)
    field = [line.split("│")[1] for line in lines[:3]]
    assert field[0] == "     ×" and field[1] == "" and field[2] == "⣀" * 10 + "×"


def test_one_point_and_equal_ones_stand_in_the_middle() -> None:
    lines = chart([], [(542, 3.5)], width=9, height=3)
    assert lines == ["    │", "3.5 │    ×", "    │", "    └─────────", "        542"]
    assert sum("×" in line for line in chart([], [(1, 2.0), (9, 2.0)])) == 1
