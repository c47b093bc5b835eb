"""Texts that were cut are found as if they had not been: against reading every whole text."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from pellucid.data.cutting import text_of
from pellucid.recipe import load
from pellucid.release.publish import publish
from pellucid.store.home import home
from pellucid.trace.where import Traced
from tests.conftest import finish
from tests.serving import serving
from tests.trace.conftest import Scanned, lossy, make


@pytest.fixture(scope="module", params=["bpe", "characters", "lossy"])
def cut(
    request: pytest.FixtureRequest, sources: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Texts in parts of at most thirty characters, together in their split;
    some queries go over several."""
    place = tmp_path_factory.mktemp("runs")
    kind = (
        lossy(sources, place) if request.param == "lossy" else [f"tokenizer.kind={request.param}"]
    )
    settings = ["data.max_document_characters=30", "data.split=texts", "train.steps=20", *kind]
    return finish(make(place / "cut", sources, settings))


def whole(folder: Path, split: str) -> tuple[dict[str, str], dict[str, int]]:
    """Every text, and how many characters lie before each of its parts."""
    texts, before = dict[str, str](), dict[str, int]()
    scanned = Scanned.of(folder, split)
    for name, text in zip(scanned.ids, scanned.texts, strict=True):
        base = text_of(name)[0]
        before[name] = len(texts.get(base, ""))
        texts[base] = texts.get(base, "") + text
    return texts, before


def places(texts: dict[str, str], query: str) -> list[tuple[str, int]]:
    found = []
    for name, text in texts.items():
        at = text.find(query)
        while at >= 0:
            found.append((name, at))
            at = text.find(query, at + 1)
    return found


def test_every_place_is_found_over_any_number_of_seams(cut: Path) -> None:
    traced, (texts, before), (held, _) = Traced(cut), whole(cut, "train"), whole(cut, "validation")
    steps, over = load(cut).train.steps, 0
    for seed in range(60):
        draw = random.Random(seed)
        text = draw.choice(list(texts.values()))
        size = draw.choice([2, 3, 5, 9, 25, 70, 130])
        begin = draw.randrange(max(1, len(text) - size))
        query = text[begin : begin + size]
        about = traced.where(query)
        found = [
            (text_of(hit["document"])[0], before[hit["document"]] + hit["offset"])
            for hit in about["hits"]
        ]
        assert sorted(found) == sorted(places(texts, query)) and about["count"] == len(found)
        assert about["validation"] == len(places(held, query))
        assert traced.where(query, before=steps + 1)["count"] <= about["count"]
        for hit in about["hits"]:
            name = text_of(hit["document"])[0]
            at = before[hit["document"]] + hit["offset"]
            left, here, right = hit["context"]
            assert here == query and texts[name][:at].endswith(left)
            assert texts[name][at + len(query) :].startswith(right)
            seams = sum(
                at < begun < at + len(query)
                for one, begun in before.items()
                if text_of(one)[0] == name
            )
            over += seams > 0
            tokens = sum(
                time["tokens"] for one in (hit, *hit["continues"]) for time in one["steps"][:1]
            )
            assert tokens > 0 or not hit["steps"]
    assert over > 30


def test_what_steps_before_one_saw_is_what_their_rows_hold(cut: Path) -> None:
    traced, (texts, _) = Traced(cut), whole(cut, "train")
    for seed in range(8):
        draw = random.Random(seed)
        text = draw.choice(list(texts.values()))
        query = text[(begin := draw.randrange(max(1, len(text) - 60))) : begin + 60]
        hits = traced.where(query)["hits"]
        for step in (5, 15):
            told = traced.where(query, before=step)
            seen = [
                hit
                for hit in hits
                if (hit["whole"] and any(one["step"] < step for one in hit["steps"]))
                or (
                    not hit["whole"]
                    and hit["continues"]
                    and all(
                        any(one["step"] < step for one in part["steps"])
                        for part in (hit, *hit["continues"])
                    )
                )
            ]
            assert told["count"] == len(told["hits"]) >= len(seen)


def test_trace_goes_over_seams(cut: Path) -> None:
    texts, _ = whole(cut, "train")
    text = max(texts.values(), key=len)
    (span,) = Traced(cut).trace(text)["spans"]
    assert (span["start"], span["end"]) == (0, len(text))


def test_behind_a_url_seams_are_found_as_in_the_folder(cut: Path, tmp_path: Path) -> None:
    """The same answers, recorded losses too, and nothing of the search is fetched twice."""
    sealed = Path(shutil.copytree(cut, tmp_path / "sealed"))
    publish(sealed)
    texts, _ = whole(cut, "train")
    here = Traced(sealed)
    with serving(sealed) as server:
        there = Traced(home(server.url))
        for seed in range(6):
            draw = random.Random(seed)
            text = draw.choice([one for one in texts.values() if len(one) > 60])
            begin = draw.randrange(len(text) - 40)
            # Longer than a part: it goes over a seam, wherever it lies.
            query = text[begin : begin + 40]
            found = there.where(query)
            assert found == here.where(query) and found["count"] == len(places(texts, query)) > 0
            assert there.where(query, before=9) == here.where(query, before=9)
            assert there.trace(text) == here.trace(text)
        asked = [(one.path, one.start) for one in server.requests]
        assert len(asked) == len(set(asked))
        assert (
            server.sent
            < sum(path.stat().st_size for path in sealed.rglob("*") if path.is_file()) // 10
        )
