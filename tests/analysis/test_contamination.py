"""Contamination: planted examples are found with the steps that saw them, clean ones are not."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pellucid.analysis import contamination
from pellucid.analysis import question as questions
from pellucid.analysis.contamination import (
    CLEAN,
    CONTAMINATED,
    TOO_SHORT,
    UNDECIDED,
    Contamination,
    Lookup,
)
from pellucid.analysis.question import text_of
from pellucid.errors import IndexMissing
from pellucid.new import new
from pellucid.record.evaluations import OURS, Line
from pellucid.record.requests import Choices, Example, Generate, Likelihoods, Request, Rolling
from pellucid.trace import spaced
from pellucid.trace.spaced import Spaced
from pellucid.trace.where import Traced
from tests.conftest import SETTINGS, finish
from tests.trace.conftest import Scanned

STEPS = 60
BLANKS = (" ", "  ", "\n", "\t", "\r\n", "\n\n    ", "\u00a0", "\u2003 ")
SYLLABLES = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]


def words(seed: int, count: int) -> list[str]:
    """Made-up words of which a few are frequent, as in a language."""
    draw = random.Random(seed)
    return [
        "".join(SYLLABLES[min(draw.randrange(70), draw.randrange(70))] for _ in range(size))
        for size in draw.choices((1, 2, 3), (3, 4, 2), k=count)
    ]


def spaced_out(text: str, seed: int) -> str:
    draw = random.Random(seed)
    return "".join(word + draw.choice(BLANKS) for word in text.split())


WHOLE, SPACED, FIRST, SECOND, BEGIN, END, ACROSS, LATE, TWICE = (
    " ".join(words(1000 + number, 30)) for number in range(9)
)
CLEAN_TEXT = " ".join(words(2000, 30))


def halves(text: str) -> tuple[str, str]:
    half = len(text.split()) // 2
    return " ".join(text.split()[:half]), " ".join(text.split()[half:])


def prose(seed: int, count: int = 40) -> str:
    return " ".join(words(seed, count))


def planted() -> dict[str, str]:
    """The documents, by their names: twenty of nothing, and those that hold examples."""
    shared = [*WHOLE.split()[:7], *words(7, 3), *CLEAN_TEXT.split()[3:10], *words(8, 3)]
    apart = ACROSS.split()[8:15], ACROSS.split()[15:22]
    return {
        **{f"{number:02}": prose(number) for number in range(20)},
        "30-whole": f"{prose(30)}\n{WHOLE}\n{prose(31)}",
        "31-spaced": f"{prose(32)} {spaced_out(SPACED, 1)}{prose(33)}",
        "32-first": f"{prose(34)} {halves(FIRST)[0]} {prose(35)}",
        "33-second": f"{prose(36)} {halves(SECOND)[1]} {prose(37)}",
        "34-begin": f"{BEGIN} {prose(38)}",
        "35-end": f"{prose(39)} {END}",
        "36-across": f"{prose(40)} {' '.join(apart[0])}",
        "37-across": f"{' '.join(apart[1])} {prose(41)}",
        "38-shared": " ".join(shared),
        "39-late": f"{prose(42)} {LATE}",
        "40-twice": f"{TWICE} {prose(43)}",
        "41-twice": f"{TWICE} {prose(44)}",
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("contaminated")
    (place / "texts").mkdir()
    for name, text in planted().items():
        (place / "texts" / f"{name}.txt").write_text(text, encoding="utf-8")
    own = [f"train.steps={STEPS}", f"checkpoints.every={STEPS}", "data.validation_per_10000=1000"]
    own += ["data.max_document_characters=100000", "data.split=texts"]
    new(place / "run", [str(place / "texts")], "1M", [*SETTINGS, *own])
    return finish(place / "run")


@pytest.fixture(scope="module")
def lookup(run: Path) -> Lookup:
    return Lookup(run)


def question(name: str, text: str) -> Line:
    """A choice whose right text is at its end."""
    *context, last = text.split(" ")
    request = Choices(" ".join(context), (" otherwise", f" {last}"))
    example = Example(name, request, 1, name)
    numbers = {"acc": float(len(name) % 2), "acc_norm": 0.0, "chance": 0.5, "margin": 0.0}
    return Line(example, Likelihoods((-2.0, -1.0), (False, False)), numbers)


def entry(step: int, **settings: Any) -> dict[str, Any]:
    numbers = dict.fromkeys(("acc", "acc_norm", "chance", "margin"))
    about = {"step": step, "task": "planted", "metric": "accuracy", "task_digest": "00" * 32}
    about |= {"harness": "made", "version": "1"}
    return about | {"numbers": numbers, "settings": settings}


def looked_up(lookup: Lookup, texts: dict[str, str], step: int = STEPS) -> Contamination:
    return lookup.of(entry(step), lambda: [question(*one) for one in texts.items()])


def states(lookup: Lookup, texts: dict[str, str], step: int = STEPS) -> dict[str, str]:
    return {one.name: one.state for one in looked_up(lookup, texts, step).examples}


@pytest.mark.parametrize(
    ("text", "document", "share"),
    [
        (WHOLE, "30-whole", 1.0),
        (SPACED, "31-spaced", 1.0),
        (FIRST, "32-first", 0.5),
        (SECOND, "33-second", 0.5),
        (BEGIN, "34-begin", 1.0),
        (END, "35-end", 1.0),
    ],
    ids=lambda value: value if isinstance(value, str) and "-" in value else "",
)
def test_a_planted_example_is_found_with_its_document_and_steps(
    lookup: Lookup, run: Path, text: str, document: str, share: float
) -> None:
    (found,) = looked_up(lookup, {"planted": text, "clean": CLEAN_TEXT}).found()
    assert found["example"] == "planted" and found["share"] == share
    (name,) = found["documents"]
    assert document in name
    copy = planted()[document]
    asked = {text: text, SPACED: spaced_out(SPACED, 1).rstrip()}.get(text, text)
    asked = asked if asked in copy else next(half for half in halves(text) if half in copy)
    (hit,) = Traced(run).where(asked)["hits"]
    steps = {time["step"] for part in (hit, *hit["continues"]) for time in part["steps"]}
    assert found["steps"] == sorted(steps) != []


def test_what_is_clean_is_not_found(lookup: Lookup) -> None:
    """Seven words of it stand in a document, and seven on either side of the end of one."""
    texts = {"clean": CLEAN_TEXT, "across": ACROSS}
    assert states(lookup, texts) == {"clean": CLEAN, "across": CLEAN}
    assert [one.share for one in looked_up(lookup, texts).examples] == [0.0, 0.0]


def test_what_validation_alone_holds_is_not_found(lookup: Lookup, run: Path) -> None:
    held = Scanned.of(run, "validation").texts
    assert held and set(states(lookup, {str(n): one for n, one in enumerate(held)}).values()) <= {
        CLEAN
    }


def test_a_step_knows_what_steps_up_to_it_saw(lookup: Lookup) -> None:
    for text in (WHOLE, SPACED, BEGIN, END, LATE):
        by_step = [
            states(lookup, {"one": text, "two": CLEAN_TEXT}, k)["one"] for k in range(STEPS + 1)
        ]
        first = by_step.index(CONTAMINATED)
        assert first > 0 and by_step == [CLEAN] * first + [CONTAMINATED] * (STEPS + 1 - first)
        (found,) = looked_up(lookup, {"one": text, "two": CLEAN_TEXT}, first).found()
        assert max(found["steps"]) <= first
    assert set(states(lookup, {"one": WHOLE, "two": LATE}, 0).values()) == {CLEAN}


def test_the_clean_part_is_summed_up_without_the_others(lookup: Lookup) -> None:
    texts = {"a": WHOLE, "bb": CLEAN_TEXT, "ccc": ACROSS, "d": "too short"}
    about = looked_up(lookup, texts)
    assert about.clean is not None
    assert (about.clean.value, about.clean.examples) == (0.5, 2)  # bb has 0, and ccc 1.
    assert about.as_json()["examples"] == {CLEAN: 2, CONTAMINATED: 1, TOO_SHORT: 1, UNDECIDED: 0}
    alone = looked_up(lookup, {"a": WHOLE, "d": "too short"})
    assert alone.clean is None and alone.as_json()["clean"] is None


def test_the_clean_part_is_of_whole_groups(lookup: Lookup) -> None:
    """Half of a balanced pair says nothing: its choice may be the more frequent one."""
    texts = {"0/0": CLEAN_TEXT, "0/1": "too short", "1/0": prose(77), "1/1": prose(78)}
    ours = entry(STEPS) | {"harness": OURS}
    about = lookup.of(ours, lambda: [question(*one) for one in texts.items()])
    assert about.count(CLEAN) == 3 and about.clean is not None and about.clean.examples == 2
    assert any("1 clean examples are left out too" in note for note in about.notes())
    half = [question(name, texts[name]) for name in ("0/0", "0/1")]
    assert lookup.of(ours, lambda: half).clean is None
    # Names of other tasks are their makers': none leaves out another example.
    others = looked_up(lookup, texts)
    assert others.clean is not None and others.clean.examples == 3


def brute(run: Path) -> list[str]:
    return [" ".join(text.split()) for text in Scanned.of(run).texts]


@pytest.fixture(scope="module")
def folded(run: Path) -> list[str]:
    return brute(run)


@pytest.fixture(scope="module")
def traced(run: Path) -> Traced:
    return Traced(run)


def drawn(folded: list[str], seed: int) -> str:
    """Words of a document with other white space, some of them changed."""
    draw = random.Random(seed)
    own = draw.choice(folded).split()
    begin = draw.randrange(len(own))
    part = own[begin : begin + draw.choice((1, 2, 3, 5, 8, 9, 12))]
    if draw.random() < 0.3:
        part[draw.randrange(len(part))] = draw.choice(words(seed, 3))
    return spaced_out(" ".join(part), seed).strip()


@pytest.mark.parametrize("limits", [(1000, 32), (1000, 0), (30, 1), (3, 1), (0, 0)])
@settings(max_examples=60)
@given(seed=st.integers(0, 10**6))
def test_words_are_found_where_all_texts_folded_have_them(
    traced: Traced, folded: list[str], limits: tuple[int, int], seed: int
) -> None:
    text = drawn(folded, seed)
    expected = sum(" ".join(text.split()) in one for one in folded)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spaced, "MOST", limits[0])
        patch.setattr(spaced, "FEW", limits[1])
        found = Spaced(traced).find(text)
    documents = len({place.document for place in found.known})
    assert documents == expected if found.whole else documents <= expected
    assert found.whole or limits[0] < 1000


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6))
def test_places_and_steps_are_those_of_where(traced: Traced, folded: list[str], seed: int) -> None:
    text = drawn(folded, seed)
    assume(len(text.split()) > 3)
    hits = traced.where(text, fold_space=True)["hits"]
    places, whole = Spaced(traced).find(text)
    assert whole and [one.document for one in places] == [one["index"] for one in hits]
    for place, hit in zip(places, hits, strict=True):
        told = {time["step"] for part in (hit, *hit["continues"]) for time in part["steps"]}
        assert traced.steps(*place[1:]) == sorted(told)
    since = [traced.since(*place[1:]) for place in places]
    spellings = {hit["context"][1] for hit in hits}
    for step in (1, 5, 20, STEPS):
        seen = sum(traced.where(one, before=step + 1)["count"] for one in spellings)
        assert seen == sum(one is not None and one <= step for one in since)


def test_an_example_behind_more_places_than_are_read_is_not_decided(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copies that no step had seen by then stand before the one that a step had seen."""
    texts = {"planted": TWICE, "clean": CLEAN_TEXT}
    by_step = [states(Lookup(run), texts, step)["planted"] for step in range(STEPS + 1)]
    first = by_step.index(CONTAMINATED)
    monkeypatch.setattr(spaced, "MOST", 1)
    bounded = Lookup(run)
    by_step = [states(bounded, texts, step) for step in range(STEPS + 1)]
    told = [one["planted"] for one in by_step]
    assert CLEAN not in told and UNDECIDED in told[: first + 1] and told[-1] == CONTAMINATED
    assert {one["clean"] for one in by_step} == {CLEAN}
    about = looked_up(bounded, texts, 0)
    assert about.as_json()["examples"][UNDECIDED] == 1


def test_an_example_that_takes_too_long_is_not_decided(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = {"planted": SPACED, "clean": CLEAN_TEXT}
    monkeypatch.setattr(contamination, "_LEAST", 0)
    monkeypatch.setattr(contamination, "_WORK", 0)
    assert set(states(Lookup(run), texts).values()) == {UNDECIDED}
    monkeypatch.setattr(contamination, "_WORK", 100)
    assert set(states(Lookup(run), texts).values()) == {CONTAMINATED, CLEAN}


def test_the_work_of_a_task_is_bounded_by_the_length_of_its_examples(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spent, take = [0], Spaced._take

    def counted(own: Spaced, work: int) -> None:
        take(own, work)
        spent[0] += work

    monkeypatch.setattr(Spaced, "_take", counted)
    monkeypatch.setattr(contamination, "_LEAST", 50)
    texts = {str(number): spaced_out(prose(number), number) for number in range(20)}
    looked_up(Lookup(run), texts)
    assert 0 < spent[0] <= 50 + contamination._WORK * sum(map(len, texts.values()))


def test_searching_what_is_kept_takes_work_too(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a text of frequent words would take as long as it likes."""
    own, text = Spaced(Traced(run)), " ".join(WHOLE.split()[:8])
    own.find(text)  # All counts and surroundings are known from here on.
    left = list[float]()
    for searched in (1 << 40, 1):
        monkeypatch.setattr(spaced, "_SEARCHED", searched)
        own.work = 10_000
        own.find(text)
        left.append(own.work)
    assert left[0] > left[1]


@pytest.mark.parametrize(
    ("request_", "target", "shots", "expected"),
    [
        (Choices("a b", (" c", " d")), 1, 0, "a b d"),
        (Choices("a b", (" c", " d")), None, 0, "a b"),
        (Choices("a b ", ("c",)), None, 0, "a b c"),
        (Rolling("a\nb"), None, 0, "a\nb"),
        (Generate("a b:", (), 9), "c", 0, "a b: c"),
        (Choices("told\n\nq a\n\nq b\n\nq", (" c", " d")), 0, 2, "q c"),
        (Choices("told\n\nq\n\na\n\nq\n\n", (" c", " d")), 0, 1, "a\n\nq\n\n c"),
        (Choices("q", (" c", " d")), 0, 5, "q c"),
    ],
)
def test_the_text_of_an_example_is_its_question_with_what_is_right(
    request_: Request, target: int | str | None, shots: int, expected: str
) -> None:
    assert text_of(Example("x", request_, target, "x"), shots) == expected


def test_what_all_examples_begin_with_is_left_out(lookup: Lookup) -> None:
    """An instruction that a document holds makes no example dirty."""
    texts = {"a": f"{WHOLE} {CLEAN_TEXT}", "b": f"{WHOLE} {ACROSS}"}
    assert set(states(lookup, texts).values()) == {CLEAN}
    assert set(states(lookup, {"a": WHOLE, "b": WHOLE}).values()) == {CONTAMINATED}
    few = " ".join(WHOLE.split()[:7])  # No n-gram lies in these alone.
    texts = {"a": WHOLE, "b": f"{few} {CLEAN_TEXT}"}
    assert states(lookup, texts) == {"a": CONTAMINATED, "b": CLEAN}
    assert looked_up(lookup, texts).examples[0].share == 1.0
    shots = f"{WHOLE}\n\n"
    lines = [question("a", shots + CLEAN_TEXT), question("b", f"{LATE}\n\n{ACROSS}")]
    about = lookup.of(entry(STEPS, num_fewshot=1), lambda: lines)
    assert {one.state for one in about.examples} == {UNDECIDED}  # Whether those are shots.
    about = lookup.of(entry(STEPS), lambda: lines)
    assert {one.state for one in about.examples} == {CONTAMINATED}


@pytest.mark.parametrize("shots", [0, 1, 2, 3, 99])
def test_no_number_of_shots_makes_an_example_clean_that_another_makes_contaminated(
    lookup: Lookup, shots: int
) -> None:
    """The setting is the word of whoever kept the evaluation."""
    others = [prose(3000 + number, 60) for number in range(3)]
    texts = {  # What is seen is a quarter in the first part, and a seventh in the last one.
        "first": "\n\n".join([WHOLE, *(prose(4000 + number, 30) for number in range(3))]),
        "last": "\n\n".join([*others, WHOLE]),
        "clean": "\n\n".join([*others, CLEAN_TEXT]),
    }
    about = lookup.of(
        entry(STEPS, num_fewshot=shots), lambda: [question(*one) for one in texts.items()]
    )
    told = {one.name: one.state for one in about.examples}
    none = shots in (0, 99)  # There are fewer parts than 99.
    assert told == {
        "first": CONTAMINATED if none else UNDECIDED,
        "last": UNDECIDED if none else CONTAMINATED,
        "clean": CLEAN,
    }


def test_tasks_of_ours_have_no_shots(lookup: Lookup) -> None:
    text = f"{WHOLE}\n\n{CLEAN_TEXT}"
    lines = [question("a", text), question("b", f"{LATE}\n\n{ACROSS}")]
    ours = entry(STEPS, num_fewshot=1) | {"harness": OURS}
    assert {one.state for one in lookup.of(ours, lambda: lines).examples} == {CONTAMINATED}


def test_what_all_examples_share_is_told_with_its_length_and_state(lookup: Lookup) -> None:
    """Without it, nothing may be left to look up."""
    about = looked_up(lookup, {"a": f"{WHOLE} yes", "b": f"{WHOLE} no"})
    assert {one.state for one in about.examples} == {TOO_SHORT}
    assert about.as_json()["shared"] == {"words": 30, "state": CONTAMINATED}
    assert "first 30 words" in about.notes()[0] and "contaminated" in about.notes()[0]
    about = looked_up(lookup, {"a": f"{CLEAN_TEXT} yes", "b": f"{CLEAN_TEXT} no"})
    assert about.as_json()["shared"] == {"words": 30, "state": CLEAN}
    about = looked_up(lookup, {"a": WHOLE, "b": CLEAN_TEXT})
    assert about.as_json()["shared"] is None and about.notes() == []


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("a b c d e f g h i j", TOO_SHORT),
        ("x" * 23, TOO_SHORT),
        ("x" * 24, CLEAN),
        (" \n\t" * 1000 + "x", TOO_SHORT),
        ("\x00\x01 \x1b[31m" * 9, CLEAN),
        ("é" * 200_000, CLEAN),
        ("ab " * 300_000, CLEAN),
        (" ".join(map(str, range(50_000))), CLEAN),
    ],
    ids=["letters", "short", "long enough", "blanks", "control", "one word", "one", "many"],
)
def test_any_text_is_looked_up_in_bounds(lookup: Lookup, text: str, state: str) -> None:
    line = Line(Example("odd", Rolling(text), None, ""), Likelihoods((-1.0,), (True,)), {"x": 0.0})
    own = entry(STEPS) | {"metric": "measured", "numbers": {"x": ""}}
    about = lookup.of(own, lambda: [line])
    assert about.examples[0].state == state


def test_of_a_long_text_n_grams_are_spread(
    run: Path, lookup: Lookup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(questions, "MOST", 8)
    text = f"{CLEAN_TEXT} {ACROSS} {SECOND} {WHOLE}"
    about = looked_up(Lookup(run), {"a": text, "b": CLEAN_TEXT[1:]})
    assert about.examples[0].state == CONTAMINATED and 0.2 < about.examples[0].share < 0.6
    assert about.as_json()["sampled"] == 2 and "2 long examples" in about.notes()[-1]
    monkeypatch.undo()
    assert looked_up(Lookup(run), {"a": text}).as_json()["sampled"] == 0


def test_lines_that_are_another_tasks_are_not_taken_for_those_of_one(lookup: Lookup) -> None:
    """Whatever two entries say of their questions."""
    assert states(lookup, {"a": WHOLE, "b": LATE})["a"] == CONTAMINATED
    assert states(lookup, {"a": CLEAN_TEXT, "b": LATE})["a"] == CLEAN


def test_a_run_without_an_index_is_told_so(run: Path, tmp_path: Path) -> None:
    with pytest.raises(IndexMissing):
        Lookup(indexless(run, tmp_path))


def indexless(run: Path, place: Path) -> Path:
    import shutil

    folder = Path(shutil.copytree(run, place / "indexless"))
    (folder / "trace" / "manifest.json").unlink()
    return folder
