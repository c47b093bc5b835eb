"""Other anchors afterwards: the ledger stays, nothing is lost, and a sealed release refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pellucid.errors import (
    CommandInvalid,
    LedgerDiffers,
    RecipeInvalid,
    RecipeUnknownKey,
    ReleaseSealed,
)
from pellucid.recipe import load
from pellucid.release.publish import publish
from pellucid.release.verify import verify
from pellucid.replay.anchoring import place_anchors
from pellucid.store import anchors, files, layout, log
from tests.conftest import finish, make_run, pellucid
from tests.replay.test_request import forge_loss
from tests.test_run import Interrupt


@pytest.fixture
def unsealed(release: Path) -> Path:
    (release / layout.MANIFEST).unlink()
    (release / "README.md").unlink()
    return release


def held(folder: Path) -> list[int]:
    return layout.steps_in(folder / layout.ANCHORS)


def quiet(done: int, total: int) -> None:
    pass


def test_anchors_are_added_thinned_and_the_ledger_stays(unsealed: Path) -> None:
    ledger = (unsealed / layout.LEDGER).read_bytes()
    assert held(unsealed) == [0, 1, 2, 4, 5, 8, 10, 13]
    seen: list[tuple[int, int]] = []
    made, removed = place_anchors(
        unsealed, "every=3", lambda done, total: seen.append((done, total))
    )
    assert (made, removed) == ([3, 6, 9, 12], [5, 10]) and held(unsealed) == [
        0,
        1,
        2,
        3,
        4,
        6,
        8,
        9,
        12,
        13,
    ]
    assert seen == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]  # 2 to 3, 5 to 6, 8 to 9, 10 to 12.
    assert place_anchors(unsealed, "every=13, powers_of_two=false", quiet) == (
        [],
        [1, 2, 3, 4, 6, 8, 9, 12],
    )
    assert held(unsealed) == [0, 13]
    assert (
        load(unsealed).placement.anchors.every == 13
        and not load(unsealed).placement.anchors.powers_of_two
    )
    place_anchors(unsealed, "every=5,powers_of_two=true", quiet)
    assert held(unsealed) == [0, 1, 2, 4, 5, 8, 10, 13]
    assert (unsealed / layout.LEDGER).read_bytes() == ledger
    assert verify(unsealed, lambda what: None).problems == []
    publish(unsealed)
    assert verify(unsealed, lambda what: None).ok


def test_what_is_made_is_what_training_would_have_written(unsealed: Path, finished: Path) -> None:
    place_anchors(unsealed, "every=13,powers_of_two=false", quiet)
    place_anchors(unsealed, "every=5,powers_of_two=true", quiet)
    for path in files.walk(finished / layout.ANCHORS):
        assert (unsealed / layout.ANCHORS / path).read_bytes() == (
            finished / layout.ANCHORS / path
        ).read_bytes()


def test_weights_of_a_checkpoint_lie_on_disk_once(unsealed: Path) -> None:
    place_anchors(unsealed, "every=6", quiet)
    weights = layout.anchor(unsealed, 6) / anchors.WEIGHTS
    assert weights.samefile(layout.checkpoint(unsealed, 6) / anchors.WEIGHTS)


def test_the_same_placement_again_does_nothing(unsealed: Path) -> None:
    journal = (unsealed / layout.JOURNAL).read_bytes()
    assert place_anchors(unsealed, "every=5", quiet) == ([], [])
    assert (unsealed / layout.JOURNAL).read_bytes() == journal
    place_anchors(unsealed, "every=4", quiet)
    assert [entry.body["kind"] for entry in log.read(unsealed / layout.JOURNAL)][-2:] == [
        "start",
        "anchors",
    ]


def test_a_kill_in_between_loses_nothing(unsealed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, real = set(held(unsealed)), anchors.write

    def killed(target: Path, *rest: Any) -> None:
        if target.name == "step9":
            target.with_name(".partial-step9").mkdir()
            raise KeyboardInterrupt
        real(target, *rest)

    monkeypatch.setattr(anchors, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        place_anchors(unsealed, "every=3,powers_of_two=false", quiet)
    assert set(held(unsealed)) == before | {3, 6}
    monkeypatch.setattr(anchors, "write", real)
    assert place_anchors(unsealed, "every=3,powers_of_two=false", quiet)[0] == [9, 12]
    assert held(unsealed) == [0, 3, 6, 9, 12, 13] and verify(unsealed, lambda what: None).ok


def test_a_run_that_goes_on_keeps_what_it_goes_on_from(
    corpus: Path, finished: Path, tmp_path: Path
) -> None:
    from pellucid.run import run
    from tests.test_run import identity

    folder = make_run(tmp_path / "small", corpus)
    with pytest.raises(KeyError):
        run(folder, Interrupt(12, KeyError()))
    assert held(folder)[-1] == 10
    place_anchors(folder, "every=7,powers_of_two=false", quiet)
    assert held(folder) == [0, 7, 10]
    finish(folder)
    assert held(folder) == [0, 7, 13] and identity(folder) == identity(finished)


def test_a_step_that_differs_makes_no_anchor(unsealed: Path) -> None:
    forge_loss(unsealed, 7)
    with pytest.raises(LedgerDiffers, match="step 7"):
        place_anchors(unsealed, "every=7,powers_of_two=false", quiet)
    assert held(unsealed) == [0, 1, 2, 4, 5, 8, 10, 13]


def test_a_sealed_release_refuses(finished: Path) -> None:
    before = {path: (finished / path).read_bytes() for path in files.walk(finished)}
    with pytest.raises(ReleaseSealed, match="pellucid publish"):
        place_anchors(finished, "every=3", quiet)
    assert {path: (finished / path).read_bytes() for path in files.walk(finished)} == before


@pytest.mark.parametrize(
    ("placement", "error"),
    [
        ("evry=3", RecipeUnknownKey),
        ("every=0", RecipeInvalid),
        ("every", CommandInvalid),
        ("every=x", RecipeInvalid),
    ],
)
def test_a_placement_that_is_none_is_named(
    placement: str, error: type[Exception], unsealed: Path
) -> None:
    with pytest.raises(error):
        place_anchors(unsealed, placement, quiet)
    assert held(unsealed) == [0, 1, 2, 4, 5, 8, 10, 13]


def test_by_the_command_line(unsealed: Path) -> None:
    done = pellucid("run", unsealed, "--anchors", "every=6,powers_of_two=false")
    assert "2 made, 6 removed" in done.stderr and held(unsealed) == [0, 6, 12, 13]
