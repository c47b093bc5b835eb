"""The tasks that names mean: built in, or of lm-eval."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pellucid.data.covered import covered
from pellucid.data.parquet import Documents
from pellucid.evaluate.suite import BUILT_IN, completion, texts
from pellucid.evaluate.suite.base import Task as Made
from pellucid.evaluate.task import Task
from pellucid.inputs import Inputs
from pellucid.record.metrics import MEASURED
from pellucid.record.requests import Answer, Text

VALIDATION = "validation"  # Made from the run's own documents.
NAMES = (*BUILT_IN, VALIDATION)


class Completion(Task):
    """Programs that the model wrote, run in a sandbox."""

    def rated(self, answers: Sequence[Answer]) -> tuple[str, list[Mapping[str, float]]]:
        """Raises SandboxMissing."""
        written = (answer.text for answer in answers if isinstance(answer, Text))
        return MEASURED, list(completion.rate(self.examples, written))


def chosen(
    names: str,
    inputs: Inputs,
    *,
    shots: int | None = None,
    limit: int | None = None,
    offline: bool = False,
) -> list[Task]:
    """The tasks of names with commas between, or all built-in tasks.

    Raises HarnessMissing, TaskUnknown, TaskInvalid, TaskUnfit, TaskDataMissing."""
    wanted = [name for name in (word.strip() for word in names.split(",")) if name] or [*NAMES]
    others = [name for name in dict.fromkeys(wanted) if name not in NAMES]
    theirs: Sequence[Task] = ()
    if others:
        from pellucid.evaluate.harness import Wanted, prepare

        asked = [Wanted(name, shots) for name in others]
        theirs = prepare(asked, limit=limit, offline=offline, ours=NAMES)
    ours = [_task(_made(name, inputs), limit) for name in dict.fromkeys(wanted) if name in NAMES]
    return [*ours, *theirs]


def listed() -> list[dict[str, Any]]:
    """Of every built-in task what it asks; of the run's own texts how many there are depends."""
    about = [
        {
            "name": made.name,
            "examples": len(made.examples),
            "chance": made.chance,
            "metric": made.metric,
        }
        for made in (make() for make in BUILT_IN.values())
    ]
    own = {"name": VALIDATION, "examples": None, "chance": None, "metric": "bits_per_byte"}
    return [*about, own]


def _made(name: str, inputs: Inputs) -> Made:
    return texts.validation(_documents(inputs)) if name == VALIDATION else BUILT_IN[name]()


def _documents(inputs: Inputs) -> Iterator[tuple[str, str, str]]:
    """The documents that the run's validation covers: source, id and text."""
    documents = Documents.open(inputs.folder)
    for stream in covered(inputs.shards, inputs.recipe):
        for index in stream.documents.tolist():
            yield stream.source, documents.about(index)["id"], documents.text(index)


def _task(made: Made, limit: int | None) -> Task:
    kind = Completion if made.metric == "doctest" else Task
    settings = {"limit": limit, "version": made.version}
    return kind(made.name, made.metric, _first(made.examples, limit), settings)


def _first(examples: Iterable[Any], limit: int | None) -> list[Any]:
    return [*examples][:limit]
