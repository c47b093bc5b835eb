"""Which evaluations asked the same, and what tells variants of a task apart."""

from __future__ import annotations

from typing import Any

import pytest

from pellucid.measured import variants
from pellucid.record.metrics import MEASURED


def entry(**changes: Any) -> dict[str, Any]:
    return {
        "n": 1,
        "step": 12,
        "task": "arc_easy",
        "task_digest": "ab" * 32,
        "metric": "accuracy",
        "harness": "lm-eval",
        "version": "0.4.13",
        "settings": {"num_fewshot": 5},
        "numbers": {"acc": "", "chance": ""},
        "weights": "cd" * 32,
        **changes,
    }


OTHERS: dict[str, dict[str, Any]] = {
    "examples": {"task_digest": "00" * 32},
    "name": {"task": "arc_hard"},
    "metric": {"metric": "likelihood"},
    "numbers": {"numbers": {"acc": ""}},
}
MAKERS: dict[str, dict[str, Any]] = {
    "harness": {"harness": "another"},
    "version": {"version": "0.5"},
    "settings": {"settings": {"num_fewshot": 5, "revision": "x"}},
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_examples_or_ratings_are_another_question(name: str) -> None:
    assert variants.question(entry()) != variants.question(entry(**OTHERS[name]))


@pytest.mark.parametrize("name", MAKERS)
def test_who_asked_matters_where_no_metric_rates(name: str) -> None:
    other = MAKERS[name]
    assert variants.question(entry()) == variants.question(entry(**other))
    measured = {"metric": MEASURED}
    assert variants.question(entry(**measured)) != variants.question(entry(**measured, **other))


def test_neither_the_weights_nor_the_place_matter() -> None:
    assert variants.question(entry()) == variants.question(entry(n=9, step=3, weights="00" * 32))


def test_a_task_finds_its_entries_rated_or_measured() -> None:
    found = variants.asked_by("arc_easy", "ab" * 32, ("lm-eval", "0.4.13"), {"num_fewshot": 5})
    assert variants.asked(entry()) in found and variants.asked(entry(metric=MEASURED)) in found
    assert variants.asked(entry(metric=MEASURED, version="0.5")) not in found


def test_shots_limit_and_harness_are_said() -> None:
    assert variants.words(entry()) == "5 shots, lm-eval 0.4.13"
    assert variants.words(entry(settings={"num_fewshot": 1, "limit": 1000})) == (
        "1 shot, limit 1,000, lm-eval 0.4.13"
    )
    ours = {"harness": "pellucid", "version": "0.1"}
    assert variants.words(entry(settings={"version": 1, "limit": None}, **ours)) == ""
    assert len(variants.words(entry(harness="x" * 200))) < 80


def test_variants_that_these_do_not_tell_apart_have_other_settings_or_digests() -> None:
    a = entry(settings={"num_fewshot": 5, "revision": "one", "x": 1})
    b = entry(settings={"num_fewshot": 5, "revision": "two", "x": 1}, task_digest="cd" * 32)
    c = entry(settings=b["settings"], task_digest="ef" * 32)
    alone, both = variants.named([a]), variants.named([a, b])
    assert [*alone.values()] == ["5 shots, lm-eval 0.4.13"]
    assert [*both.values()] == [
        f"5 shots, lm-eval 0.4.13, revision {one}" for one in ("one", "two")
    ]
    assert len({*variants.named([a, b, c]).values()}) == 3
    # A task of another name has no part in it.
    assert (
        variants.named([a, b | {"task": "b"}])[variants.question(a)] == alone[variants.question(a)]
    )


@pytest.mark.parametrize(
    ("contents", "shown"),
    [
        (("ab" * 32, "cd" * 32), ("abababab", "cdcdcdcd")),
        (("ab" * 32, "ab" * 4 + "cd" * 28), ("ab" * 19 + "a…", "ab" * 4 + "cd" * 15 + "c…")),
    ],
)
def test_a_digest_has_eight_digits_unless_they_are_equal(
    contents: tuple[str, str], shown: tuple[str, str]
) -> None:
    entries = [
        entry(settings={"num_fewshot": 5, "content": one}, task_digest=one) for one in contents
    ]
    assert [*variants.named(entries).values()] == [
        f"5 shots, lm-eval 0.4.13, content {one}" for one in shown
    ]
