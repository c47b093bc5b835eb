"""A tensor that lies in shards has the digest of the whole one, however it is divided."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.errors import ProcessDiffers
from pellucid.record import elements
from pellucid.record.entries import CHUNK, Content
from pellucid.store import tensors
from pellucid.train import sharded
from pellucid.train.processes import Processes
from tests.train import shards
from tests.train.test_processes import together
from tests.train.test_torchrun import torchrun


def whole(array: np.ndarray) -> Content:
    return tensors.contents({"weights": {"one": array}})["weights"]["one"]


def divided(array: np.ndarray, cuts: list[int], axis: int) -> list[Any]:
    """What each process comes to, the tensor being cut at these places."""
    parts = np.split(array, cuts, axis)

    def work(processes: Processes) -> Content:
        return sharded.content(processes, parts[processes.rank], axis)

    return together(len(parts), work)


SHAPES: list[tuple[int, ...]] = [
    *[(7,), (CHUNK,), (3 * CHUNK + 1,), (CHUNK + 5, 3), (5, 2 * CHUNK - 1), (0, 4), (4, 0)],
    *[(331, 593), (129, 1, 1023), (6, 3, 4099), (1, CHUNK), (2, 65_537)],
]


@st.composite
def tensors_and_cuts(draw: st.DrawFn) -> tuple[np.ndarray, list[int], int]:
    """Rows from a few elements to more than a chunk, and some processes without any."""
    shape = draw(st.sampled_from(SHAPES))
    axis = draw(st.integers(0, len(shape) - 1))
    cuts = sorted(draw(st.lists(st.integers(0, shape[axis]), min_size=1, max_size=5)))
    dtype = draw(st.sampled_from(list(elements.DTYPES)))
    return shards.tensor(dtype, shape), cuts, axis


@settings(max_examples=60)
@given(tensors_and_cuts())
def test_shards_have_the_digests_of_the_whole(given: tuple[np.ndarray, list[int], int]) -> None:
    array, cuts, axis = given
    assert divided(array, cuts, axis) == [whole(array)] * (len(cuts) + 1)


@pytest.mark.parametrize("count", [3, 5])
def test_each_process_sends_what_it_shares_and_no_more(count: int) -> None:
    """Of rows at most the head of one chunk; borders at chunks' borders need no message at all."""
    even = shards.tensor("F32", (2 * count, CHUNK))
    odd = shards.tensor("F32", (10 * count, CHUNK // 4 - 1))
    for array, least, most in ((even, 0, 0), (odd, 1, count - 1)):
        sent: list[int] = []
        parts = np.split(array, count)

        def work(processes: Processes, parts: list[np.ndarray] = parts) -> int:
            sharded.content(processes, parts[processes.rank])
            return processes.messages.sent  # type: ignore[union-attr]

        sent = together(count, work)
        assert least <= sum(sent) <= most and max(sent) <= 1


def test_one_process_alone_and_another_order_of_bytes() -> None:
    array = shards.tensor("F32", (70, 1000))
    alone = Processes(0, 1, None)
    assert sharded.content(alone, array) == sharded.content(alone, array, 1) == whole(array)
    swapped = array.astype(">f4")
    assert divided(np.asfortranarray(swapped), [30, 31], 0) == [whole(array)] * 3


def test_a_shard_in_another_place_gives_another_digest() -> None:
    array = shards.tensor("F32", (70, 2000))
    parts = np.split(array, [20, 40])
    swapped = together(3, lambda p: sharded.content(p, parts[(1, 0, 2)[p.rank]]))
    assert swapped[0] == swapped[1] == swapped[2] != whole(array)


@pytest.mark.parametrize("other", [("F32", (4, 8)), ("F16", (4, 7)), ("F32", (28,))])
def test_shards_of_another_kind_are_refused(other: tuple[str, tuple[int, ...]]) -> None:
    kinds = [("F32", (4, 7)), ("F32", (9, 7)), other]
    given = together(3, lambda p: sharded.content(p, shards.tensor(*kinds[p.rank])))
    for one in given:
        assert isinstance(one, ProcessDiffers) and "type or shape of a shard" in str(one)


@pytest.mark.parametrize("count", [3, 5])
def test_real_processes_come_to_the_digests_of_the_whole(count: int, tmp_path: Path) -> None:
    done = torchrun(count, "-m", "tests.train.shards", tmp_path)
    assert done.returncode == 0, done.stderr
    told = [json.loads((tmp_path / f"{rank}.json").read_bytes()) for rank in range(count)]
    expected = [tensors.group_root("weights", {"one": one}).hex() for one in shards.drawn()]
    assert told == [expected] * count
