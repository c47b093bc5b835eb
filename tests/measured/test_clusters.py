"""Equal requests are one cluster, so that asking again narrows no interval."""

from __future__ import annotations

from collections.abc import Sequence

from pellucid.evaluate.suite import BUILT_IN, calibration, texts
from pellucid.measured.clusters import Clusters, clusters_of
from pellucid.measured.paired import paired
from pellucid.measured.summary import summary
from pellucid.record.evaluations import Line
from pellucid.record.requests import Choices, Example, Likelihoods, Rolling


def example(name: str, context: str, cluster: str = "", target: int = 0) -> Example:
    return Example(name, Choices(context, (" a", " b")), target, cluster)


def test_clusters_are_those_that_the_examples_name() -> None:
    asked = [example("1", "x", "one"), example("2", "y", "one"), example("3", "z")]
    assert clusters_of(asked) == ["one", "one", "3"]


def test_an_equal_request_joins_clusters_whatever_else_differs() -> None:
    """By way of others, too; and all of a cluster comes along."""
    asked = [
        *(example("1", "x", "one"), example("2", "y", "two"), example("3", "z", "three")),
        *(example("4", "x", "four", target=1), example("5", "other", "four")),
        *(example("6", "y", "four"), example("7", "alone", "seven")),
    ]
    names = clusters_of(asked)
    assert len({names[at] for at in (0, 1, 3, 4, 5)}) == 1
    assert len({*names}) == 3 and names[2] != names[6] != names[0]


def test_a_release_of_before_counts_as_it_did() -> None:
    clusters = Clusters(joined=False)
    for one in (example("1", "x"), example("2", "x")):
        clusters.take(one)
    assert clusters.names() == ["1", "2"]


def test_a_long_chain_of_equal_requests_is_joined_in_time() -> None:
    count = 20_000
    asked = [
        example(f"{at} {side}", f"{at + side}", f"{at}") for at in range(count) for side in (0, 1)
    ]
    assert len({*clusters_of(asked[::-1])}) == 1


ENTRY = {
    "n": 1,
    "step": 0,
    "task": "t",
    "metric": "accuracy",
    "harness": "made",
    "version": "1",
    "settings": {},
    "numbers": dict.fromkeys(("acc", "acc_norm", "chance", "margin"), ""),
}


def lines(contexts: Sequence[str], right: Sequence[int]) -> list[Line]:
    made = []
    for at, (context, good) in enumerate(zip(contexts, right, strict=True)):
        nats = (-1.0, -2.0) if good else (-2.0, -1.0)
        numbers = {"acc": float(good), "acc_norm": float(good), "chance": 0.5, "margin": 1.0}
        made.append(Line(example(f"{at}", context), Likelihoods(nats, (False, False)), numbers))
    return made


def test_asking_again_narrows_no_interval() -> None:
    """Of each question its copies, each under a name and a cluster of its own."""
    contexts, right = [f"q{at}" for at in range(12)], [1, 0, 1, 1, 0, 1, 0, 1, 1, 1, 0, 1]
    once, often = lines(contexts, right), lines(contexts * 50, right * 50)
    a, b = summary(ENTRY, once), summary(ENTRY, often)
    assert a.interval and b.interval and a.value == b.value and b.examples == 600
    assert b.interval.high - b.interval.low > 0.9 * (a.interval.high - a.interval.low)
    apart = summary(ENTRY, often, joined=False).interval
    assert apart and apart.high - apart.low < 0.2 * (a.interval.high - a.interval.low)
    other = lines(contexts * 50, [1 - one for one in right[:3] + right[3:]] * 50)
    told = paired(ENTRY, often, ENTRY, other).interval
    single = paired(ENTRY, once, ENTRY, lines(contexts, [1 - one for one in right])).interval
    assert told and single and told.high - told.low > 0.7 * (single.high - single.low)


def test_one_question_asked_often_has_no_interval() -> None:
    assert summary(ENTRY, lines(["q"] * 100, [1] * 100)).interval is None


def test_tables_by_text_and_calibration_count_equal_questions_once() -> None:
    asked = [Example(f"s/{at}/0", Rolling("the same"), None, f"{at}") for at in range(50)]
    (row, *_) = texts.table(asked, [-3.0] * 50)
    assert row.documents == 50 and row.interval is None
    known = calibration.bins([example(f"{at}", "q") for at in range(9)], [(-1.0, -2.0)] * 9)
    assert [one.interval for one in known] == [None]


def test_no_built_in_task_repeats_a_question_in_another_cluster() -> None:
    """So none of their intervals has changed."""
    for make in BUILT_IN.values():
        examples = make().examples
        own = [one.cluster or one.name for one in examples]
        assert clusters_of(examples) == own, make.__name__
