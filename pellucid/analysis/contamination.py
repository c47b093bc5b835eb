"""Which examples of an evaluation the training data holds, and the steps that saw them.

The n-grams of an example have 8 words (PaLM: Chowdhery and others, "PaLM: Scaling
Language Modeling with Pathways", 2022, section 8; also the least of GPT-3: Brown and others,
"Language Models are Few-Shot Learners", 2020, appendix C). An example is clean where less than
20% of its words lie in n-grams that training has seen (Llama 2: Touvron and others, "Llama 2:
Open Foundation and Fine-Tuned Chat Models", 2023, appendix A.6). Any white space between
words matches any other. docs/evaluate.md says what this does not find."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pellucid.measured import stored
from pellucid.measured.summary import Summary, summary
from pellucid.record import merkle
from pellucid.record.evaluations import Line, question_leaf
from pellucid.record.requests import Choices, Continue, Example, Rolling
from pellucid.trace.spaced import Spaced
from pellucid.trace.where import LEAST, Traced

WORDS = 8  # Of an n-gram; of a shorter example all …
CHARACTERS = LEAST  # … and at least so many characters, white space as one blank.
SHARE = 0.2  # Of an example's words: contaminated from here on.
CLEAN, CONTAMINATED, TOO_SHORT, UNDECIDED = "clean", "contaminated", "too short", "not decided"
_MOST = 1024  # N-grams of an example that are looked up: of a longer text, evenly spread.
_PLACES = 20  # Of an n-gram that are told: those that were seen first.
_KNOWN = 1 << 15  # N-grams that are not looked up again.
_WORD = re.compile(r"\S{1,32}")  # A longer one, of a text without blanks, counts as several.
_SHOTS = "\n\n"  # Between the examples of a context, by default of lm-eval.

Lines = Callable[[], Iterable[Line]]
Told = Callable[[int], None]  # (examples looked up)


class Seen(NamedTuple):
    """A place of an n-gram, and the steps that trained there."""

    since: int  # The step after which all of it had been seen.
    document: int
    steps: tuple[int, ...]


class Ngram(NamedTuple):
    """Words [begin, end) of an example. seen: where steps saw them, the earliest first; None: not
    decided."""

    begin: int
    end: int
    seen: Sequence[Seen] | None

    def by(self, step: int) -> bool:
        """Whether steps up to this one saw it somewhere."""
        return bool(self.seen) and self.seen[0].since <= step


class Looked(NamedTuple):
    """An example, looked up. words: those that lie in its n-grams; ngrams: those that were seen or
    are not decided."""

    name: str
    words: int
    ngrams: tuple[Ngram, ...]

    def at(self, step: int) -> Judged:
        """What it is for the weights after a step."""
        if not self.words:
            return Judged(self.name, TOO_SHORT, 0.0, ())
        found = [one for one in self.ngrams if one.by(step)]
        share = _covered(found) / self.words
        if share >= SHARE:
            places = {at for one in found for at in one.seen or () if at.since <= step}
            return Judged(self.name, CONTAMINATED, share, tuple(sorted(places)))
        open_ones = [one for one in self.ngrams if one.seen is None or one.by(step)]
        undecided = _covered(open_ones) / self.words >= SHARE
        return Judged(self.name, UNDECIDED if undecided else CLEAN, share, ())


class Judged(NamedTuple):
    """An example as the weights of a step have it. share: of its words, those in n-grams that were
    seen; places: of a contaminated one where, the earliest first."""

    name: str
    state: str  # CLEAN, CONTAMINATED, TOO_SHORT or UNDECIDED.
    share: float
    places: tuple[Seen, ...]


@dataclass(frozen=True)
class Contamination:
    """An evaluation's examples in their order, and its number on the clean ones (None: of none)."""

    step: int
    examples: Sequence[Judged]
    clean: Summary | None
    documents: Mapping[int, str]  # By index, the ids of those that contaminated examples are in.

    def count(self, state: str) -> int:
        return sum(one.state == state for one in self.examples)

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
        states = (CLEAN, CONTAMINATED, TOO_SHORT, UNDECIDED)
        return {
            "words": WORDS,
            "characters": CHARACTERS,
            "threshold": SHARE,
            "examples": {state: self.count(state) for state in states},
            "clean": self.clean and self.clean.as_json(),
            "found": self.found(),
        }


class Lookup:
    """A run's training data, in which the examples of tasks are looked up: of each task once,
    whatever steps are asked. Raises IndexMissing, StageNotReady, FormatInvalid."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._traced = folder, Traced(folder)
        self._spaced = Spaced(self._traced)
        self._tasks = dict[tuple[bytes, int], list[Looked]]()
        self._known = dict[str, Sequence[Seen] | None]()

    def of(
        self, entry: Mapping[str, Any], lines: Lines | None = None, told: Told = lambda _: None
    ) -> Contamination:
        """The examples of an entry of the evaluations. lines: of one that the run does not keep.
        Raises EvaluationBroken, FormatInvalid."""
        written = lines or (lambda: stored.lines(self._folder, entry))
        step: int = entry["step"]
        key = _digest(written()), _shots(entry)
        if key not in self._tasks:
            self._tasks[key] = [*self._looked(written, key[1], told)]
        judged = [looked.at(step) for looked in self._tasks[key]]
        rows = zip(written(), judged, strict=True)
        clean = (line for line, one in rows if one.state == CLEAN)
        some = any(one.state == CLEAN for one in judged)
        indices = sorted({place.document for one in judged for place in one.places})
        about = self._traced.shown.documents.about
        names = {index: str(about(index)["id"]) for index in indices}
        return Contamination(step, judged, summary(entry, clean) if some else None, names)

    def _looked(self, written: Lines, shots: int, told: Told) -> Iterator[Looked]:
        common = _common(text_of(line.example, shots) for line in written())
        for count, line in enumerate(written(), 1):
            words = text_of(line.example, shots).split(None, common)[common:]
            yield self._look_up(line.example.name, words[0] if words else "")
            told(count)

    def _look_up(self, name: str, text: str) -> Looked:
        spans = [match.span() for match in _WORD.finditer(text)]
        asked = [*_ngrams(spans)]
        asked = asked[:: -(-len(asked) // _MOST) or 1]
        ngrams = [
            Ngram(begin, end, self._seen(text[spans[begin][0] : spans[end - 1][1]]))
            for begin, end in asked
        ]
        known = tuple(one for one in ngrams if one.seen is None or one.seen)
        return Looked(name, _covered(ngrams), known)

    def _seen(self, text: str) -> Sequence[Seen] | None:
        """What the run's own steps have seen of a text's places; None: not decided."""
        key = " ".join(text.split())
        if key not in self._known:
            if len(self._known) == _KNOWN:
                self._known.clear()
            self._known[key] = self._asked(text)
        return self._known[key]

    def _asked(self, text: str) -> Sequence[Seen] | None:
        places = self._spaced.find(text)
        if places is None:
            return None
        begun = [
            (since, place)
            for place in places
            if (since := self._traced.since(place.stream, place.first, place.last))
        ]
        begun.sort(key=lambda one: (one[0], one[1].document, one[1].first))
        return tuple(
            Seen(since, at.document, tuple(self._traced.steps(at.stream, at.first, at.last)))
            for since, at in begun[:_PLACES]
        )


def found(folder: Path, entry: Mapping[str, Any]) -> Contamination:
    """The contamination of an evaluation that a run keeps; of several, a Lookup asks faster.
    Raises IndexMissing, StageNotReady, EvaluationBroken, FormatInvalid."""
    return Lookup(folder).of(entry)


def text_of(example: Example, shots: int = 0) -> str:
    """What would give an example away: its whole text, or its question with the right choice or
    the right text. Of several choices of which none is named right, the question alone. Nothing
    of a request in token ids, which asks for what was trained on.

    shots: solved examples before the question. These and the question are held to have the same
    number of blank lines, so that the question is the last of so many equal parts."""
    request, target = example.request, example.target
    if isinstance(request, Rolling):
        return request.text
    if isinstance(request, Continue):
        return ""
    parts = request.context.rstrip().split(_SHOTS)
    question = _SHOTS.join(parts[-max(1, len(parts) // (shots + 1)) :])
    if isinstance(request, Choices):
        blanks = request.context[len(request.context.rstrip()) :]
        right = 0 if target is None and len(request.choices) == 1 else target
        return question + blanks + request.choices[right] if isinstance(right, int) else question
    return f"{question} {target or ''}"


def _shots(entry: Mapping[str, Any]) -> int:
    shots = entry["settings"].get("num_fewshot")
    return shots if type(shots) is int and shots > 0 else 0


def _common(texts: Iterable[str]) -> int:
    """How many words all texts begin with, such as an instruction; none where all are equal, or
    where no n-gram lies in so few."""
    first: list[str] | None = None
    count, differ = 0, False
    for text in texts:
        words = text.split()
        if first is None:
            first, count = words, len(words)
            continue
        differ = differ or words != first
        pairs = enumerate(zip(first[:count], words, strict=False))
        count = next((at for at, (one, other) in pairs if one != other), min(count, len(words)))
    return count if differ and count >= WORDS else 0


def _ngrams(spans: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The words [begin, end) that are looked up: from each word on the fewest that are enough.
    spans: where each word begins and ends in its text."""
    lengths, blanks = [0], [0]  # Characters of the words before each, and blanks between them.
    for at, (begin, end) in enumerate(spans):
        lengths.append(lengths[-1] + end - begin)
        blanks.append(blanks[-1] + (at > 0 and spans[at - 1][1] < begin))
    least = min(WORDS, len(spans))
    end = least
    for begin in range(len(spans)):
        end = max(end, begin + least)
        while end <= len(spans):
            if lengths[end] - lengths[begin] + blanks[end] - blanks[begin + 1] >= CHARACTERS:
                break
            end += 1
        if end > len(spans):
            return
        yield begin, end


def _covered(ngrams: Iterable[Ngram]) -> int:
    """How many words lie in n-grams, which ascend."""
    count, reached = 0, 0
    for one in ngrams:
        count += max(0, one.end - max(one.begin, reached))
        reached = max(reached, one.end)
    return count


def _steps(judged: Judged, last: int) -> list[int]:
    return sorted({step for place in judged.places for step in place.steps if step <= last})


def _digest(lines: Iterable[Line]) -> bytes:
    """Of the questions. What an entry says of them is not taken: two may say the same."""
    tree = merkle.Tree()
    for line in lines:
        tree.add(question_leaf(line.example))
    return tree.root()
