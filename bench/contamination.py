"""Examples of tasks, and planted ones, looked up in a run's training data.

    python bench/contamination.py RUN [--planted 200] [--tasks NAMES]

Each line has the processor time of a lookup and what it says of the last step. The planted examples
are 40 words each that training has seen: as they stand, with other white space, half of them, and
the same words in another order, which are clean. The seed is fixed."""

from __future__ import annotations

import argparse
import random
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from pellucid.analysis.contamination import CLEAN, CONTAMINATED, TOO_SHORT, UNDECIDED, Lookup
from pellucid.data.documents import Documents
from pellucid.evaluate.tasks import chosen
from pellucid.inputs import Inputs
from pellucid.recipe import load
from pellucid.record.evaluations import OURS, Line
from pellucid.record.requests import Example, Likelihoods, Rolling
from pellucid.trace.where import Traced

WORDS = 40
BLANKS = (" ", "  ", "\n", "\t", "\n    ", "\r\n", "\u00a0")
NAMES = "agreement,determiners,brackets,indentation,binding,keywords,induction,copying,completion"


def passages(folder: Path, count: int, draw: random.Random) -> Iterator[list[str]]:
    """Words that follow each other in a training document, and that steps have seen."""
    documents, traced = Documents.open(folder), Traced(folder)
    batches = documents.rows(["text"], "train")
    texts = [text for batch in batches for text in batch.column("text").to_pylist()]
    while count:
        text = draw.choice(texts)
        spans = [match.span() for match in re.finditer(r"\S+", text)]
        if len(spans) < WORDS:
            continue
        begin = draw.randrange(len(spans) - WORDS + 1)
        part = text[spans[begin][0] : spans[begin + WORDS - 1][1]]
        if traced.where(part, before=1 << 40, limit=0)["count"]:
            yield part.split()
            count -= 1


def planted(kind: str, words: list[str], draw: random.Random) -> str:
    other = draw.sample(words, len(words))
    if kind == "re-spaced":
        return "".join(word + draw.choice(BLANKS) for word in words)
    if kind == "half":
        return " ".join([*words[: WORDS // 2], *other[WORDS // 2 :]])
    return " ".join(other if kind == "clean" else words)


def told(lookup: Lookup, name: str, step: int, examples: Sequence[Example]) -> None:
    answer = Likelihoods((-1.0,), (False,))
    lines = [Line(example, answer, {"acc": 0.0}) for example in examples]
    entry = {
        "step": step,
        "task": name,
        "metric": "measured",
        "numbers": {"acc": ""},
        "harness": OURS,
    }
    begun = time.process_time()
    seen = lookup.of(entry | {"settings": {}}, lambda: lines)
    spent = time.process_time() - begun
    counts = (seen.count(state) for state in (CLEAN, CONTAMINATED, TOO_SHORT, UNDECIDED))
    columns = "".join(f"{count:>13,}" for count in counts)
    print(f"{name:<20} {len(lines):>8,} {spent:>8.2f}{columns}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--planted", type=int, default=200)
    parser.add_argument("--tasks", default=f"{NAMES},validation")
    asked = parser.parse_args()
    inputs = Inputs.load(asked.run, load(asked.run))
    step, draw = inputs.recorded().steps_done, random.Random(1)
    states = "".join(f"{state:>13}" for state in (CLEAN, CONTAMINATED, TOO_SHORT, UNDECIDED))
    print(f"{'':<20} examples  seconds{states}")
    drawn = [*passages(asked.run, asked.planted, draw)]
    for kind in ("whole", "re-spaced", "half", "clean"):
        texts = [planted(kind, words, draw) for words in drawn]
        examples = [Example(str(n), Rolling(text), None, "") for n, text in enumerate(texts)]
        told(Lookup(asked.run), f"planted, {kind}", step, examples)  # Without what is known.
    lookup = Lookup(asked.run)
    for task in chosen(asked.tasks, inputs):
        told(lookup, task.name, step, task.examples)


if __name__ == "__main__":
    main()
