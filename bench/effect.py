"""The effect of a planted document, measured by replay: forks that go without it, and without
others of its size.

    python bench/effect.py [--work bench/out/effect]

Four documents of made-up facts are planted among the sources of SymPy's core. A fork goes on from
the middle of the run without one of them, and takes the rest of the steps again. Every run is asked
the facts of the first document: their bits per byte. `pellucid report` compares the fork without
that document with its parent, and the three forks without another document. The bench fails if the
interval of the document's effect does not lie above that of the others, if the latter does not hold
zero, or if another document has a quarter of the effect.

What is left of a run from an earlier call is not made again."""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from typing import Any

from pellucid import philox
from pellucid.evaluate import kept
from pellucid.evaluate.measure import measure
from pellucid.evaluate.task import Task
from pellucid.fork import fork
from pellucid.inputs import Inputs
from pellucid.look.show import list_documents
from pellucid.measured import stored
from pellucid.new import new
from pellucid.recipe import FILE, load
from pellucid.record.requests import Example, Rolling
from pellucid.report.write import report
from pellucid.run import run
from pellucid.terminal import Terminal

STEPS, MIDDLE, EVERY = 300, 150, 50
DOCUMENTS, FACTS, REPEATED = 4, 40, 3
SETTINGS = [
    'data.sources.sympy.include=["sympy/core/**/*.py"]',
    "data.sources.sympy.licence=BSD-3-Clause",
    "data.sources.planted.licence=CC0-1.0",
    "data.sources.planted.weight=4",
    "optimizer.kind=muon",
    "train.lr=8e-3",
    f"train.steps={STEPS}",
    "model.family=qwen3",
    "model.context=128",
    "tokenizer.vocabulary=2048",
    f"validation.every={EVERY}",
    f"checkpoints.every={STEPS}",
    "placement.trace=false",
]
_SYLLABLES = [a + b for a in "bdklmn" for b in "aeio"]
_SMALL = 0.25  # Of the planted document's effect: more may no other document have.


def facts(document: int) -> list[str]:
    """Sentences of made-up names; the same for the same number."""
    draws = philox.draws(philox.key_of(document, "planted facts"), 0, 2 * FACTS).tolist()
    words = ["".join(_SYLLABLES[draw // 24**n % 24] for n in range(3)).title() for draw in draws]
    pairs = zip(words[::2], words[1::2], strict=True)
    return [f"The warden of {place} is {name}.\n" for place, name in pairs]


def plant(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(DOCUMENTS):
        (folder / f"facts-{number}.txt").write_text("".join(facts(number) * REPEATED), "utf-8")


def trained(folder: Path) -> None:
    run(folder, Terminal(quiet=True))


def asked(folder: Path) -> None:
    """Ask a run the facts of the first document, at every stored step of its second half."""
    examples = [
        Example(f"fact {number}", Rolling(fact), None, "") for number, fact in enumerate(facts(0))
    ]
    name, harness = "facts of the planted document", ("effect.py", "1")
    task = Task(name, "bits_per_byte", examples, harness=harness)
    inputs, steps = Inputs.load(folder, load(folder)), range(MIDDLE, STEPS + 1, EVERY)
    told, done = (lambda *_: None), stored.entries(folder)
    with kept.writing(folder, [task], steps) as chain:
        for result in measure(inputs, [task], steps, told, told, done):
            if result.entry is None:
                made = kept.evaluation(inputs.recorded(), result.step, task, result.answers)
                chain.keep(made)


def without(parent: Path, document: str, target: Path) -> None:
    """Make a fork without a document and train it."""
    if not (target / FILE).is_file():
        inputs = Inputs.load(parent, load(parent))
        fork(inputs, MIDDLE, target, [], [document], lambda *_: None)
    trained(target)


def effect(numbers: dict[str, Any], title: str, key: str) -> dict[str, Any]:
    """The last difference of the facts in a section of a report."""
    return max(numbers[title][key], key=lambda one: (one["number"] == "bits_per_byte", one["step"]))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("bench/out/effect"))
    work = parser.parse_args().work.resolve()
    plant(work / "planted")
    parent = work / "parent"
    if not (parent / FILE).is_file():
        new(parent, ["package:sympy", str(work / "planted")], "1M", SETTINGS)
    trained(parent)
    documents = [one for one in list_documents(parent) if one["source"] == "planted"]
    assert [one["split"] for one in documents] == ["train"] * DOCUMENTS, "one is in validation"
    asked(parent)
    forks = [work / f"without-{number}" for number in range(DOCUMENTS)]
    for one, folder in zip(documents, forks, strict=True):
        without(parent, one["id"], folder)
    for folder in forks:
        asked(folder)
    with contextlib.chdir(work):
        _, planted = report([str(parent), str(forks[0])], work / "planted-report")
        _, others = report([str(parent), *map(str, forks[1:])], work / "others-report")
    names = ", ".join(one.name for one in forks[1:])
    one = effect(planted, f"{forks[0].name} beside parent", "evaluations")
    rest = effect(others, f"Over the runs {names}", "differences")
    return told(one, rest, others["The runs"]["runs"])


def told(one: dict[str, Any], rest: dict[str, Any], runs: list[dict[str, Any]]) -> int:
    """Print what was found and what it cost; the exit code."""
    low, high = (one["interval"][name] for name in ("low", "high"))
    low_rest, high_rest = (rest["interval"][name] for name in ("low", "high"))
    print(f"bits per byte of the {one['examples']} facts of the planted document, step {STEPS}")
    print(f"  the run                            {one['a']:.3f}")
    print(f"  its fork without the document      {one['b']:.3f}")
    print(f"  difference                         {one['difference']:+.3f}", end="")
    print(f"   95% interval {low:+.3f} to {high:+.3f}, paired by fact")
    print(f"  without another one, {len(rest['values'])} forks       {rest['mean']:+.3f}", end="")
    print(f"   95% interval {low_rest:+.3f} to {high_rest:+.3f}, over the forks")
    parent, *forks = runs
    seconds = sum(fork["seconds"] for fork in forks) / len(forks)
    print(f"cost of a document: {forks[0]['steps']} steps in {seconds:.0f} s;", end=" ")
    print(f"the run took {parent['steps']} steps in {parent['seconds']:.0f} s")
    small = max(map(abs, rest["values"])) < _SMALL * one["difference"]
    found = low_rest <= 0 <= high_rest < low and small
    print("found" if found else "NOT FOUND")
    return 0 if found else 1


if __name__ == "__main__":
    sys.exit(main())
