"""What the bench of killed runs counts."""

from __future__ import annotations

import pytest

from bench import kills


@pytest.mark.parametrize(
    ("state", "last", "boundaries"),
    [(0, 5, 0), (0, 6, 1), (4, 5, 0), (4, 6, 1), (5, 6, 0), (40, 40, 0), (5, 5, 0), (0, 160, 31)],
)
def test_boundaries_lie_between_steps_that_were_lost(
    state: int, last: int, boundaries: int
) -> None:
    """Phases of five steps. A state at the end of a phase has lost none of it."""
    assert kills.crossed(state, last) == boundaries
