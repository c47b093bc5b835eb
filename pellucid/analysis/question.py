"""What of an example is looked for in the training data: its words, what of them may be its
question, and the n-grams.

No entry is relied on to say which part of a request is the question: any part between blank lines
may begin it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

from pellucid.record.requests import Choices, Continue, Example, Rolling
from pellucid.trace.where import LEAST

WORDS = 8  # Of an n-gram; of a shorter example all …
CHARACTERS = LEAST  # … and at least so many characters, white space as one blank.
MOST = 1024  # N-grams of a question that are looked up: of a longer one, evenly spread.
BEFORE = 64  # The same of what stands before the question.
_WORD = re.compile(r"\S{1,32}")  # A longer one, of a text without blanks, counts as several.
_BLANK_LINE = "\n\n"  # Between the examples of a context, by default of lm-eval.

Span = tuple[int, int]  # Words [begin, end) of a text.


class Asked(NamedTuple):
    """An example as it is looked up."""

    text: str
    places: Sequence[Span]  # Of its words: the characters [begin, end) of the text.
    begins: Sequence[int]  # The words that its question may begin with, ascending.
    question: int  # The one of them that its entry says.
    ngrams: Sequence[Span]  # Ascending.
    sampled: bool  # Whether they are not all of the question.

    def content(self, ngram: Span) -> str:
        """With one blank between the words."""
        begin, end = self.places[ngram[0]][0], self.places[ngram[1] - 1][1]
        return " ".join(self.text[begin:end].split())


class Shared(NamedTuple):
    """How many words all texts of a task begin with, and all questions; such as an instruction."""

    texts: int
    questions: int


def asked(example: Example, shots: int, shared: Shared) -> Asked:
    """An example with so many solved examples before its question, as its entry has it."""
    parts = _parts(example)
    text = _BLANK_LINE.join(parts)
    counts = accumulate(len(_WORD.findall(part)) for part in parts)
    begins = {part: max(at, shared.texts) for part, at in enumerate((0, *counts))}
    first = len(parts) - _of_question(parts, shots)
    begins[first] += 0 if first == 0 else shared.questions
    places = [match.span() for match in _WORD.finditer(text)]
    return _asked(text, places, sorted({*begins.values()}), begins[first])


def beginning(example: Example, words: int) -> Asked:
    """What all examples of a task begin with, looked up as if it were one."""
    text = text_of(example)
    places = [match.span() for match in _WORD.finditer(text)][:words]
    return _asked(text, places, [0], 0)


def _asked(text: str, places: Sequence[Span], begins: Sequence[int], question: int) -> Asked:
    own = [*_ngrams(places, question)]
    before = [one for one in _ngrams(places, begins[0]) if one[0] < question]
    ngrams = (*_spread(before, BEFORE), *_spread(own, MOST))
    return Asked(text, places, begins, question, ngrams, len(own) > MOST)


def shared(examples: Iterable[Example], shots: int) -> Shared:
    """None where all are equal, or where no n-gram lies in so few words."""
    texts, questions = _Common(), _Common()
    for example in examples:
        texts.take(text_of(example))
        if shots:
            questions.take(text_of(example, shots))
    return Shared(texts.words, questions.words)


def text_of(example: Example, shots: int = 0) -> str:
    """What would give an example away: its whole text, or its question with the right choice or
    the right text. Of several choices of which none is named right, the question alone. Nothing
    of a request in token ids, which asks for what was trained on.

    shots: solved examples before the question. These and the question are held to have the same
    number of blank lines, so that the question is the last of so many equal parts."""
    parts = _parts(example)
    return _BLANK_LINE.join(parts[-_of_question(parts, shots) :])


def covered(spans: Sequence[Span], begins: Sequence[int]) -> list[int]:
    """From each of some words on, how many words lie in spans. Both ascend, and so do the ends of
    the spans."""
    counts, count, reached, left = list[int](), 0, spans[-1][1] if spans else 0, len(spans)
    for begin in reversed(begins):
        while left and spans[left - 1][0] >= begin:
            left -= 1
            count += min(spans[left][1], reached) - spans[left][0]
            reached = spans[left][0]
        counts.append(count)
    return counts[::-1]


def _parts(example: Example) -> list[str]:
    """The text of an example, cut at blank lines where these may stand between examples."""
    request, target = example.request, example.target
    if isinstance(request, Rolling):
        return [request.text]
    if isinstance(request, Continue):
        return [""]
    context = request.context.rstrip()
    *before, last = context.split(_BLANK_LINE)
    if isinstance(request, Choices):
        right = 0 if target is None and len(request.choices) == 1 else target
        if isinstance(right, int):
            last += request.context[len(context) :] + request.choices[right]
        return [*before, last]
    return [*before, f"{last} {target or ''}"]


def _of_question(parts: Sequence[str], shots: int) -> int:
    """How many parts are the question; all where there are fewer parts than solved examples."""
    return len(parts) // (shots + 1) or len(parts)


class _Common:
    """What words all texts begin with that are given."""

    def __init__(self) -> None:
        self._first: list[str] | None = None
        self._count, self._differ = 0, False

    def take(self, text: str) -> None:
        words = _WORD.findall(text)
        if self._first is None:
            self._first, self._count = words, len(words)
            return
        self._differ = self._differ or words != self._first
        pairs = enumerate(zip(self._first[: self._count], words, strict=False))
        least = min(self._count, len(words))
        self._count = next((at for at, (one, other) in pairs if one != other), least)

    @property
    def words(self) -> int:
        return self._count if self._differ and self._count >= WORDS else 0


def _spread(ngrams: Sequence[Span], most: int) -> Sequence[Span]:
    return ngrams[:: -(-len(ngrams) // most) or 1]


def _ngrams(places: Sequence[Span], first: int) -> Iterator[Span]:
    """The words that are looked up: from each word behind the first ones the fewest that are
    enough."""
    lengths, blanks = [0], [0]  # Characters of the words before each, and blanks between them.
    for at, (begin, end) in enumerate(places):
        lengths.append(lengths[-1] + end - begin)
        blanks.append(blanks[-1] + (at > 0 and places[at - 1][1] < begin))
    least = min(WORDS, len(places) - first)
    end = first + least
    for begin in range(first, len(places)):
        end = max(end, begin + least)
        while end <= len(places):
            if lengths[end] - lengths[begin] + blanks[end] - blanks[begin + 1] >= CHARACTERS:
                break
            end += 1
        if end > len(places):
            return
        yield begin, end
