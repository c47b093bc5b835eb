"""Hostile releases for a few seconds; `make fuzz` takes longer over it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.mutations import Choices, mutate
from fuzz.readers import Release
from fuzz.run import small_release
from pellucid.store import files, layout


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Release:
    place = tmp_path_factory.mktemp("hostile")
    return Release(small_release(place), place / "copy")


def test_every_reader_reads_the_release_as_it_is(hostile: Release) -> None:
    hostile.read_all()


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=16, max_size=80))
def test_no_reader_does_what_it_should_not(hostile: Release, data: bytes) -> None:
    assert hostile.attack(data) == []


@settings(max_examples=30, deadline=None)
@given(st.binary(min_size=16, max_size=80))
def test_an_attack_puts_back_what_it_changed(hostile: Release, data: bytes) -> None:
    hostile.attack(data)
    assert {path: (hostile.folder / path).read_bytes() for path in files.walk(hostile.folder)} == hostile.contents


def test_most_changes_change_something_and_the_same_bytes_make_the_same_change(hostile: Release) -> None:
    for path in (layout.LEDGER, "recipe.toml", "metrics/steps.parquet", "model.safetensors", "data/manifest.json"):
        content = hostile.contents[path]
        made = [mutate(path, content, Choices(bytes([n]) * 40)) for n in range(40)]
        assert made[3] == mutate(path, content, Choices(bytes([3]) * 40))
        assert sum(one != content for one in made) > 20 and len(set(made)) > 15, path


def test_a_reader_that_raises_anything_else_is_noticed(hostile: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test of the test: a fault in a reader, a change that verify does not see, memory, time."""
    import fuzz.readers as readers

    def faulty(folder: Path) -> None:
        raise KeyError("x")

    def blind(folder: Path) -> bool:
        return True

    def greedy(folder: Path) -> None:
        assert len(bytes(readers.LIMIT + (64 << 20)))

    monkeypatch.setattr(readers, "MORE", [lambda folder: None])
    for reader, what in ((faulty, "KeyError"), (blind, "called sound"), (greedy, "MB of memory")):
        monkeypatch.setattr(readers, "READERS", [(prefix, [reader]) for prefix, _ in readers.READERS])
        monkeypatch.setattr(readers, "verified", blind)
        found = [one for n in range(30) for one in hostile.attack(bytes([n]) * 40)]
        assert found and all(what in one.what for one in found), (what, found[:1])
