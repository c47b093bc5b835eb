"""Hostile releases: whatever their files hold, readers raise our errors and no other.
`make fuzz` tries for an hour."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz import readers
from fuzz.readers import Release
from fuzz.run import small_release


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Release:
    place = tmp_path_factory.mktemp("hostile")
    release = Release(small_release(place), place / "release")
    release.read_all()
    return release


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.binary(min_size=1, max_size=200))
def test_a_changed_file_gives_only_errors_of_ours(attacked: Release, data: bytes) -> None:
    assert attacked.attack(data) == []


def test_an_error_that_is_not_ours_would_be_found(
    attacked: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "MORE", [lambda folder: 1 // 0])
    found = [one for n in range(16) for one in attacked.attack(bytes([n] * 8))]
    assert found and all(one.what.startswith("ZeroDivisionError") for one in found)
