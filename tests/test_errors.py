"""Errors: each says what its fields are, and is the same one behind a pipe between processes."""

from __future__ import annotations

import inspect
import multiprocessing
import string

import pytest

from pellucid import errors
from pellucid.errors import PellucidError

KINDS = {
    name: kind
    for name, kind in vars(errors).items()
    if inspect.isclass(kind) and issubclass(kind, PellucidError)
}
PLAUSIBLE = {"signal": "SIGTERM", "path": "/runs/a b", "step": 7, "count": 3, "found": {"a": [1]}}


def gaps(kind: type[PellucidError]) -> set[str]:
    """The fields that a message tells."""
    return {name for _, name, _, _ in string.Formatter().parse(kind.message) if name}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("whole", [True, False], ids=["all fields", "without the optional ones"])
def test_every_error_survives_the_way_between_processes(name: str, whole: bool) -> None:
    kind = KINDS[name]
    wanted = gaps(kind) - (set() if whole else set(kind.optional))
    error = kind(**{gap: PLAUSIBLE.get(gap, f"the {gap}") for gap in wanted})
    here, there = multiprocessing.Pipe()
    with here, there:
        there.send(error)
        again = here.recv()
    assert type(again) is kind and again.args == error.args and again.fields == error.fields
    assert (str(again), again.name, again.exit_code) == (str(error), name, error.exit_code)
    assert "{" not in str(again).replace(str(PLAUSIBLE["found"]), "") and "\n" not in str(again)


def test_the_errors_are_all_of_them() -> None:
    """Those that are raised are under their own names in pellucid.errors."""
    found, left = set(), [PellucidError]
    while left:
        kind = left.pop()
        found.add(kind)
        left += kind.__subclasses__()
    assert {kind for kind in found if kind.__module__.startswith("pellucid.")} == set(
        KINDS.values()
    )
    assert len(KINDS) > 80
