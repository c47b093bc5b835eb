"""Replayed states are kept, found again, and trusted no further than their root."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pellucid.errors import DiskFull, VariableInvalid
from pellucid.release.export import export
from pellucid.replay.materialise import materialise
from pellucid.store import anchors, cache, files, layout
from tests.conftest import pellucid
from tests.replay.test_audit import opened


def replayed(folder: Path, step: int) -> int:
    """How many steps had to be taken again to have this one, whose state is then checked."""
    seen: list[int] = []
    inputs = opened(folder)
    state = materialise(inputs, step, lambda done, total: seen.append(done))
    assert state.roots().state.hex() == inputs.recorded().step(step)["state"]
    return len(seen)


def test_a_state_is_replayed_once(finished: Path, own_cache: Path) -> None:
    before = {path: (finished / path).stat().st_mtime_ns for path in files.walk(finished)}
    assert replayed(finished, 7) == 2  # From the anchor of step 5.
    assert replayed(finished, 7) == 0
    assert [step for step, _ in cache.held()] == [7]
    shutil.rmtree(own_cache)
    assert replayed(finished, 7) == 2
    assert {path: (finished / path).stat().st_mtime_ns for path in files.walk(finished)} == before


def test_a_later_step_goes_on_from_a_cached_one(release: Path) -> None:
    shutil.rmtree(release / "anchors")
    assert replayed(release, 9) == 9
    assert replayed(release, 11) == 2 and replayed(release, 3) == 3


def test_an_anchor_is_never_cached_and_a_nearer_one_is_taken(finished: Path) -> None:
    assert replayed(finished, 5) == 0 and cache.held() == []
    assert replayed(finished, 7) == 2
    assert replayed(finished, 9) == 1  # From the anchor of step 8, not from the cached step 7.


@pytest.mark.parametrize("name", [anchors.WEIGHTS, anchors.OPTIMIZER])
@pytest.mark.parametrize("damage", ["bit", "cut", "empty", "gone", "folder"])
def test_a_damaged_entry_is_dropped_and_replayed(
    name: str, damage: str, finished: Path, own_cache: Path
) -> None:
    assert replayed(finished, 7) == 2
    path = next(own_cache.iterdir()) / name
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "gone":
        path.write_bytes({"bit": content, "cut": content[:-1], "empty": b""}[damage])
    assert replayed(finished, 7) == 2
    assert replayed(finished, 7) == 0  # Kept anew, whole.


def test_another_state_under_this_root_is_not_taken(finished: Path, own_cache: Path) -> None:
    assert replayed(finished, 7) == 2
    place = next(own_cache.iterdir())
    shutil.rmtree(place)
    shutil.copytree(layout.anchor(finished, 5), place)
    assert replayed(finished, 7) == 2


def test_the_state_of_another_run_is_not_taken(finished: Path, own_cache: Path) -> None:
    assert replayed(finished, 7) == 2
    place = next(own_cache.iterdir())
    place.rename(place.with_name("step7-" + "ab" * 32))
    assert replayed(finished, 7) == 2


def state(step: int, size: int = 1000) -> tuple[anchors.Groups, dict]:
    groups = {
        "weights": {"w": np.full(size, step, np.float32)},
        "exp_avg": {"w": np.zeros(1, np.float32)},
    }
    from pellucid.store import tensors

    return groups, anchors.about(
        {"step": step, "n": 0, "weights": "", "state": ""}, tensors.state_roots(step, groups)
    )


def test_the_entries_used_longest_ago_go_first(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.keep(*state(1))
    size = sum((own_cache / path).stat().st_size for path in files.walk(own_cache))
    monkeypatch.setenv("PELLUCID_CACHE_BYTES", str(3 * size + size // 2))
    for step in (1, 2, 3):
        cache.keep(*state(step))
        os.utime(own_cache / f"step{step}-{state(step)[1]['state']}", (step, step))
    assert cache.read(1, state(1)[1]["state"]) is not None  # Used now.
    cache.keep(*state(4))
    assert [step for step, _ in cache.held()] == [4, 3, 1]
    assert sum((own_cache / path).stat().st_size for path in files.walk(own_cache)) <= 4 * size
    cache.keep(*state(5, 9000))  # Larger than the whole cache: nothing makes way for it.
    assert [step for step, _ in cache.held()] == [4, 3, 1]


def test_no_cache_at_all(finished: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert replayed(finished, 7) == 2
    monkeypatch.setenv("PELLUCID_CACHE_BYTES", "0")
    assert replayed(finished, 7) == 2 and cache.held() == []


@pytest.mark.parametrize("text", ["2GB", "-1", "", "1e9"])
def test_a_size_that_is_none_is_named(
    text: str, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PELLUCID_CACHE_BYTES", text)
    with pytest.raises(VariableInvalid, match="PELLUCID_CACHE_BYTES"):
        replayed(finished, 7)


def test_what_a_killed_writer_left_is_removed(own_cache: Path) -> None:
    (own_cache / ".partial-step9-x").mkdir(parents=True)
    cache.keep(*state(1))
    assert [path.name for path in own_cache.iterdir()] == [f"step1-{state(1)[1]['state']}"]


def test_a_full_disk_costs_no_state(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise DiskFull(path="cache")

    monkeypatch.setattr(anchors, "write", full)
    with pytest.warns(UserWarning, match="step 7 is not kept"):
        assert replayed(finished, 7) == 2


def test_processes_share_it(finished: Path, own_cache: Path) -> None:
    """Four at once write, read and push out each other's entries."""
    one = "from pathlib import Path; from tests.replay.test_cache import replayed\n"
    work = (
        one + f"print([replayed(Path({str(finished)!r}), step) "
        "for step in (7, 11, 9, 7, 12, 11, 3, 6)])"
    )
    size = sum(path.stat().st_size for path in layout.anchor(finished, 5).iterdir())
    environment = {
        **os.environ,
        "PELLUCID_CACHE_BYTES": str(2 * size + size // 2),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-c", work]
    processes = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) for _ in range(4)
    ]
    for process in processes:
        out, _ = process.communicate()
        assert process.returncode == 0 and len(json.loads(out)) == 8
    assert 1 <= len(cache.held()) <= 2
    assert all(cache.read(step, root) is not None for step, root in cache.held())
    assert all(not path.name.startswith(files.TEMPORARY) for path in own_cache.iterdir())


def test_export_and_sample_use_it(finished: Path, tmp_path: Path, own_cache: Path) -> None:
    export(opened(finished), 7, "state", tmp_path / "state", lambda done, total: None)
    assert [step for step, _ in cache.held()] == [7]
    used = next(own_cache.iterdir())
    os.utime(used, (1, 1))
    pellucid("sample", finished, "--step", 7, "--tokens", 2)
    assert used.stat().st_mtime > 1
