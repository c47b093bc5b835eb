"""Which examples of an evaluation the training data holds, and the steps that saw them.

The n-grams of an example have 8 words (PaLM: Chowdhery and others, "PaLM: Scaling
Language Modeling with Pathways", 2022, section 8; also the least of GPT-3: Brown and others,
"Language Models are Few-Shot Learners", 2020, appendix C). An example is clean where less than
20% of its words lie in n-grams that training has seen (Llama 2: Touvron and others, "Llama 2:
Open Foundation and Fine-Tuned Chat Models", 2023, appendix A.6). Any white space between
words matches any other. docs/evaluate.md says what this does not find.

A run and its examples may be made to deceive. Where a bound was reached, an example that may be
contaminated is not decided; so is one that would be contaminated with other solved examples before
its question than its entry says.

Examples with names such as 012/0 and 012/1 are a group: in a built-in pair each choice is right
once, so that no choice gains by its length or frequency. That holds for whole groups alone, so the
number of the clean part is of these."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pellucid.analysis.question import (
    CHARACTERS,
    WORDS,
    Asked,
    asked,
    beginning,
    covered,
    shared,
)
from pellucid.measured import stored
from pellucid.measured.summary import Summary, summary
from pellucid.record import merkle
from pellucid.record.evaluations import OURS, Line, question_leaf
from pellucid.trace.spaced import Spaced
from pellucid.trace.where import Traced

SHARE = 0.2  # Of an example's words: contaminated from here on.
CLEAN, CONTAMINATED, TOO_SHORT, UNDECIDED = "clean", "contaminated", "too short", "not decided"
STATES = (CLEAN, CONTAMINATED, TOO_SHORT, UNDECIDED)
_PLACES = 20  # Of an n-gram that are told: those that were seen first.
_KNOWN = 1 << 15  # N-grams that are not looked up again.
_WORK = 2  # Places in the training data that may be looked at for each character of examples …
_LEAST = 1 << 16  # … and so many more for each task.

Lines = Callable[[], Iterable[Line]]
Told = Callable[[int], None]  # (examples looked up)


class Seen(NamedTuple):
    """A place of an n-gram, and the steps that trained there."""

    since: int  # The step after which all of it had been seen.
    document: int
    steps: tuple[int, ...]


class Ngram(NamedTuple):
    """Words [begin, end) of an example. seen: places where steps saw them, the earliest first;
    whole: whether no other place was left out."""

    begin: int
    end: int
    seen: Sequence[Seen]
    whole: bool

    def by(self, step: int) -> bool:
        """Whether steps up to this one saw it somewhere."""
        return bool(self.seen) and self.seen[0].since <= step


class Looked(NamedTuple):
    """An example, looked up. begins: the words that its question may begin with, and words: from
    each on how many lie in n-grams; question: the one that its entry says. ngrams: those that were
    seen or may have been. sampled: whether these are not all of the question."""

    name: str
    begins: Sequence[int]
    words: Sequence[int]
    question: int
    ngrams: tuple[Ngram, ...]
    sampled: bool

    def at(self, step: int) -> Judged:
        """What it is for the weights after a step."""
        words = self.words[self.begins.index(self.question)]
        found = [one for one in self.ngrams if one.begin >= self.question and one.by(step)]
        share = covered([one[:2] for one in found], [self.question])[0] / max(words, 1)
        if share >= SHARE:
            places = {at for one in found for at in one.seen if at.since <= step}
            return Judged(self.name, CONTAMINATED, share, tuple(sorted(places)))
        possible = [one[:2] for one in self.ngrams if one.by(step) or not one.whole]
        pairs = zip(covered(possible, self.begins), self.words, strict=True)
        if any(count and count >= SHARE * of for count, of in pairs):
            return Judged(self.name, UNDECIDED, share, ())
        return Judged(self.name, CLEAN if words else TOO_SHORT, share, ())


class Judged(NamedTuple):
    """An example as the weights of a step have it. share: of its words, those in n-grams that were
    seen; places: of a contaminated one where, the earliest first."""

    name: str
    state: str  # Of STATES.
    share: float
    places: tuple[Seen, ...]


class Searched(NamedTuple):
    """The examples of a task, looked up. shared: the words that all of them begin with."""

    examples: Sequence[Looked]
    shared: tuple[int, Looked] | None


@dataclass(frozen=True)
class Contamination:
    """An evaluation's examples in their order, and its number on those of groups that are clean as
    a whole (None: of none)."""

    step: int
    after: int  # Steps behind this one were looked at: of a fork its own.
    examples: Sequence[Judged]
    sampled: int  # Examples of which some n-grams were looked up, and not all.
    shared: tuple[int, str] | None  # How many words all examples begin with, and their state.
    clean: Summary | None
    documents: Mapping[int, str]  # By index, the ids of those that contaminated examples are in.

    def count(self, state: str) -> int:
        return sum(one.state == state for one in self.examples)

    def notes(self) -> list[str]:
        """What a reader of its numbers has to know, in words."""
        notes = list[str]()
        whole = self.clean.examples if self.clean else 0
        if alone := self.count(CLEAN) - whole:
            notes.append(
                f"{alone:,} clean examples are left out too: others of their groups are not clean"
            )
        if self.shared:
            notes.append(
                f"the first {self.shared[0]:,} words, which all examples share, are left out "
                f"(they are {self.shared[1]})"
            )
        if self.sampled:
            notes.append(f"of {self.sampled:,} long examples some n-grams are looked up, not all")
        return notes

    @property
    def of_fork(self) -> str | None:
        """What a reader has to know of a fork, once for all of its tasks; None of other runs."""
        told = f"only steps after {self.after:,} are looked at, not those of its parent"
        return told if self.after else None

    def found(self) -> list[dict[str, Any]]:
        """Each contaminated example: `example`, `share`, the ids of `documents`, and the `steps`
        up to this one that saw it."""
        return [
            {
                "example": one.name,
                "share": one.share,
                "documents": [*dict.fromkeys(self.documents[at.document] for at in one.places)],
                "steps": _steps(one, self.step),
            }
            for one in self.examples
            if one.state == CONTAMINATED
        ]

    def as_json(self) -> dict[str, Any]:
        return {
            "words": WORDS,
            "characters": CHARACTERS,
            "threshold": SHARE,
            "after_step": self.after,
            "examples": {state: self.count(state) for state in STATES},
            "sampled": self.sampled,
            "shared": self.shared and {"words": self.shared[0], "state": self.shared[1]},
            "clean": self.clean and self.clean.as_json(),
            "found": self.found(),
        }


class Lookup:
    """A run's training data, in which the examples of tasks are looked up: of each task once,
    whatever steps are asked. Raises IndexMissing, StageNotReady, FormatInvalid."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._traced = folder, Traced(folder)
        self._tasks = dict[tuple[bytes, int], Searched]()

    def of(
        self, entry: Mapping[str, Any], lines: Lines | None = None, told: Told = lambda _: None
    ) -> Contamination:
        """The examples of an entry of the evaluations. lines: of one that the run does not keep.
        Raises EvaluationBroken, FormatInvalid."""
        written = lines or (lambda: stored.lines(self._folder, entry))
        step: int = entry["step"]
        key = _digest(written()), _shots(entry)
        if key not in self._tasks:
            self._tasks[key] = _Search(self._traced).task(written, key[1], told)
        task = self._tasks[key]
        judged = [looked.at(step) for looked in task.examples]
        rows = zip(written(), judged, strict=True)
        group = _group if entry.get("harness") == OURS else _alone
        broken = {group(one.name) for one in judged if one.state != CLEAN}
        clean = (line for line, one in rows if group(one.name) not in broken)
        some = any(group(one.name) not in broken for one in judged)
        indices = sorted({place.document for one in judged for place in one.places})
        about = self._traced.shown.documents.about
        names = {index: str(about(index)["id"]) for index in indices}
        return Contamination(
            step,
            self._traced.shown.recipe.first,
            judged,
            sum(looked.sampled for looked in task.examples),
            task.shared and (task.shared[0], task.shared[1].at(step).state),
            summary(entry, clean) if some else None,
            names,
        )


class _Search:
    """One task, looked up. Its work is bounded by the length of its examples alone, so that it has
    the same answer whatever else was looked up."""

    def __init__(self, traced: Traced) -> None:
        self._traced, self._spaced = traced, Spaced(traced, _LEAST)
        self._known = dict[str, tuple[Sequence[Seen], bool]]()

    def task(self, written: Lines, shots: int, told: Told) -> Searched:
        common = shared((line.example for line in written()), shots)
        looked = list[Looked]()
        for count, line in enumerate(written(), 1):
            looked.append(self.look_up(line.example.name, asked(line.example, shots, common)))
            told(count)
        if not common.texts:
            return Searched(looked, None)
        first = next(iter(written())).example
        words = self.look_up(first.name, beginning(first, common.texts))
        return Searched(looked, (common.texts, words))

    def look_up(self, name: str, example: Asked) -> Looked:
        self._spaced.work += _WORK * len(example.text)
        ngrams = [Ngram(*one, *self._seen(example.content(one))) for one in example.ngrams]
        words = covered(example.ngrams, example.begins)
        known = tuple(one for one in ngrams if one.seen or not one.whole)
        return Looked(name, example.begins, words, example.question, known, example.sampled)

    def _seen(self, text: str) -> tuple[Sequence[Seen], bool]:
        """What the run's own steps have seen of a text's places, and whether that is all."""
        if text not in self._known:
            if len(self._known) == _KNOWN:
                self._known.clear()
            self._known[text] = self._asked(text)
        return self._known[text]

    def _asked(self, text: str) -> tuple[Sequence[Seen], bool]:
        places = self._spaced.find(text)
        begun = [
            (since, place)
            for place in places.known
            if (since := self._traced.since(place.stream, place.first, place.last))
        ]
        begun.sort(key=lambda one: (one[0], one[1].document, one[1].first))
        seen = tuple(
            Seen(since, at.document, tuple(self._traced.steps(at.stream, at.first, at.last)))
            for since, at in begun[:_PLACES]
        )
        return seen, places.whole


def found(folder: Path, entry: Mapping[str, Any]) -> Contamination:
    """The contamination of an evaluation that a run keeps; of several, a Lookup asks faster.
    Raises IndexMissing, StageNotReady, EvaluationBroken, FormatInvalid."""
    return Lookup(folder).of(entry)


def _shots(entry: Mapping[str, Any]) -> int:
    """Solved examples before each question; our own tasks have none."""
    shots = entry["settings"].get("num_fewshot")
    ours = entry.get("harness") == OURS
    return shots if type(shots) is int and shots > 0 and not ours else 0


def _group(name: str) -> str:
    """Of the name of a built-in example: all but its number in the group."""
    return name.rpartition("/")[0] or name


def _alone(name: str) -> str:
    """Names of other tasks are their makers': one could leave out what they like."""
    return name


def _steps(judged: Judged, last: int) -> list[int]:
    return sorted({step for place in judged.places for step in place.steps if step <= last})


def _digest(lines: Iterable[Line]) -> bytes:
    """Of the questions. What an entry says of them is not taken: two may say the same."""
    tree = merkle.Tree()
    for line in lines:
        tree.add(question_leaf(line.example))
    return tree.root()
