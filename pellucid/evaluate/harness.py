"""Tasks of EleutherAI's lm-eval, asked of the scorer.

lm-eval reads the data, draws the shots, writes the requests and rates the answers with its own
code, so that a task gives the numbers that it gives there. Its models and its caches are not
used. A task is prepared once, and asked of every checkpoint."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import io
import logging
import os
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pellucid.errors import (
    CommandInvalid,
    HarnessMissing,
    PellucidError,
    TaskDataMissing,
    TaskInvalid,
    TaskNameTaken,
    TaskUnfit,
    TaskUnknown,
)
from pellucid.evaluate import described, faults, instances
from pellucid.evaluate.instances import Document
from pellucid.evaluate.task import Task
from pellucid.record import metrics
from pellucid.record.requests import Answer, Choices, Request, Rolling

SEED = 1234  # Of lm-eval's shots, unless told otherwise.
_OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")


class Wanted(NamedTuple):
    """A name of lm-eval's, the path of a YAML file or of a folder of them, or a preset."""

    name: str
    shots: int | None = None  # None: the task's own.


# The tasks and shots of LLM360's Amber: the table in Analysis360, analysis/metrics/README.md.
PRESETS = {
    "llm360": (
        Wanted("mmlu", 5),
        Wanted("race", 0),
        Wanted("arc_challenge", 25),
        Wanted("boolq", 0),
        Wanted("hellaswag", 10),
        Wanted("openbookqa", 0),
        Wanted("piqa", 0),
        Wanted("social_iqa", 0),
        Wanted("winogrande", 0),
        Wanted("crows_pairs_english", 0),
        Wanted("truthfulqa_mc1", 0),
        Wanted("truthfulqa_mc2", 0),
    )
}


@dataclass(frozen=True, eq=False)
class HarnessTask(Task):
    """A task of lm-eval with its requests."""

    documents: Sequence[Document] = ()
    task: Any = None  # Of lm-eval.

    def rated(self, answers: Sequence[Answer]) -> tuple[str, list[Mapping[str, float]]]:
        """As lm-eval rates them. The metric is one of Pellucid's where that gives the same numbers
        for every document. Raises AnswerNotFinite, TaskInvalid."""
        remaining = iter(answers)
        for document in self.documents:
            instances.give(self.task, document, [next(remaining) for _ in document.examples])
        self.task.apply_filters()
        theirs = [instances.ratings(self.task, document)[0] for document in self.documents]
        if len(self.documents) == len(self.examples):
            for metric in metrics.METRICS:
                if ours := self._rated_by(metric, answers, theirs):
                    return metric, ours
        self._check_alike(theirs)
        return metrics.MEASURED, [
            numbers
            for document, numbers in zip(self.documents, theirs, strict=True)
            for _ in document.examples
        ]

    def _rated_by(
        self, metric: str, answers: Sequence[Answer], theirs: Sequence[Mapping[str, float]]
    ) -> list[Mapping[str, float]]:
        """The numbers of a metric of ours; nothing if it lacks or contradicts one of lm-eval's."""
        rated = []
        for example, answer, numbers in zip(self.examples, answers, theirs, strict=True):
            ours = metrics.numbers_of(metric, example.request, example.target, answer)
            if ours is None or not _without_empty(example.request, numbers).items() <= ours.items():
                return []
            rated.append(ours)
        return rated

    def _check_alike(self, theirs: Sequence[Mapping[str, float]]) -> None:
        for document, numbers in zip(self.documents, theirs, strict=True):
            if [*numbers] != [*theirs[0]]:
                detail = f"document {document.name} has other numbers than the first"
                raise TaskInvalid(task=self.name, detail=detail)
            if len(document.examples) != len(self.documents[0].examples):
                # A mean over the requests would weigh documents otherwise than lm-eval does.
                detail = f"document {document.name} has more or fewer requests than the first"
                raise TaskUnfit(task=self.name, detail=detail)


def _without_empty(request: Request, numbers: Mapping[str, float]) -> Mapping[str, float]:
    """lm-eval's numbers without the empty words that it counts at the ends of a text which begins
    or ends with white space."""
    if not isinstance(request, Rolling) or "words" not in numbers:
        return numbers
    empty = request.text[:1].isspace() + request.text[-1:].isspace()
    return {**numbers, "words": numbers["words"] - empty}


def prepare(
    wanted: Sequence[Wanted],
    *,
    limit: int | None = None,
    seed: int = SEED,
    offline: bool = False,
    ours: Iterable[str] = (),
) -> list[HarnessTask]:
    """Tasks by their names, with their first `limit` documents. ours: names that no task of
    lm-eval may have, and that a misspelt name may mean.

    Raises CommandInvalid, HarnessMissing, TaskUnknown, TaskInvalid, TaskNameTaken, TaskUnfit,
    TaskDataInvalid, TaskDataMissing, RightChoiceMissing."""
    for name, shots in wanted:
        if name in PRESETS and shots is not None:
            detail = f"{name} sets the shots of its tasks. Leave one of both out"
            raise CommandInvalid(verb="evaluate", word="--shots", detail=detail)
    listed = [each for name in wanted for each in PRESETS.get(name.name, (name,))]
    version, manager = _library(offline)
    tasks = _loaded(listed, manager, [*ours], offline)
    for task, shots in tasks:
        # As lm-eval has it, a task that fixes zero shots keeps them.
        if shots is not None and task.config.num_fewshot != 0:
            task.set_config("num_fewshot", shots)
        task.set_fewshot_seed(seed)
    return [_prepared(task, limit, seed, version) for task, _ in tasks]


def _library(offline: bool) -> tuple[str, Any]:
    if offline:  # Read when the libraries are loaded.
        os.environ.update(dict.fromkeys(_OFFLINE, "1"))
    try:
        import datasets
        from lm_eval import __version__
        from lm_eval.tasks import TaskManager
    except ModuleNotFoundError as error:
        raise HarnessMissing() from error
    datasets.disable_progress_bars()
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    return __version__, TaskManager


def _loaded(
    wanted: Sequence[Wanted], manager: Any, ours: Sequence[str], offline: bool
) -> list[tuple[Any, int | None]]:
    """The tasks with their data, each once, and the shots wanted of it."""
    named = [each.name for each in wanted if not _is_path(each.name)]
    index = manager(include_defaults=bool(named))  # Reading lm-eval's own takes long.
    for name in named:
        if name not in index.all_tasks:
            near = difflib.get_close_matches(name, [*index.all_tasks, *PRESETS, *ours], n=3)
            raise TaskUnknown(task=name, near=f" (near: {', '.join(near)})" if near else "")
    tasks, missing = dict[str, tuple[Any, int | None]](), list[str]()
    for name, shots in wanted:
        if _is_path(name) and not Path(name).exists():
            raise TaskInvalid(task=name, detail="there is no such file or folder")
        random.seed(0)  # As lm-eval does, but for each task: some shuffle their choices.
        np.random.seed(SEED)
        try:
            loaded = _load(name, index, manager)
        except OSError as error:
            if _is_path(name) and type(error) is FileNotFoundError:  # A file that the task names.
                raise TaskInvalid(task=name, detail=described.failure(error)) from error
            missing.append(f"{name} ({described.failure(error)}{faults.near_format(error)})")
            continue
        except StopIteration as error:
            raise TaskInvalid(task=name, detail="its data has no document") from error
        except Exception as error:
            raise faults.of(error, name) from error
        if not loaded:
            raise TaskInvalid(task=name, detail="the folder has no file with a task")
        for own, task in loaded.items():
            if str(task.task_name) in ours:
                raise TaskNameTaken(path=name, task=task.task_name)
            tasks[own] = (task, shots)
    if missing:
        without = " and without --offline" if offline else ""
        raise TaskDataMissing(tasks="; ".join(missing), without=without)
    return [*tasks.values()]


def _load(name: str, index: Any, manager: Any) -> Mapping[str, Any]:
    if not Path(name).is_dir():
        return index.load(name)["tasks"]
    own = manager(include_path=name, include_defaults=False)
    return own.load(own.all_subtasks)["tasks"]


def _is_path(name: str) -> bool:
    return name.endswith((".yaml", ".yml")) or os.sep in name


def _prepared(task: Any, limit: int | None, seed: int, version: str) -> HarnessTask:
    """With its requests built, and a rating of made-up answers tried: what cannot be rated fails
    before a model is asked."""
    name = str(task.task_name)
    if getattr(task, "MULTIMODAL", False) or getattr(task, "UNSAFE_CODE", False):
        raise TaskUnfit(task=name, detail="it needs pictures, sound, or to run what a model wrote")
    shots = _Shots(task)
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # Its progress.
            faults.check(task, limit)
            task.build_all_requests(limit=limit)
        documents = [*instances.documents(task)]
        if not documents:
            raise TaskInvalid(task=name, detail="its data has no document")
        settings = {
            **described.data(task),
            "content": _content(task, documents),
            "fewshot_seed": seed,
            "limit": limit,
            "num_fewshot": int(task.config.num_fewshot or 0),
            "shots_replaced": shots.replaced,
            "unrated": ",".join(sorted(_tried(task, documents)))[:200] or None,
        }
    except PellucidError:
        raise
    except StopIteration as error:
        raise TaskInvalid(task=name, detail="its data has no document") from error
    except Exception as error:
        raise TaskInvalid(task=name, detail=described.failure(error)) from error
    examples = [example for document in documents for example in document.examples]
    return HarnessTask(
        name,
        metrics.MEASURED,
        examples,
        settings,
        harness=("lm-eval", version),
        documents=documents,
        task=task,
    )


def _tried(task: Any, documents: Sequence[Document]) -> set[str]:
    """What lm-eval rates the first document by that is no number."""
    for document in documents:
        answers = [instances.made_up(example.request) for example in document.examples]
        instances.give(task, document, answers)
    task.apply_filters()
    numbers, unrated = instances.ratings(task, documents[0])
    example = documents[0].examples[0]
    if not numbers and not (isinstance(example.request, Choices) and example.target is not None):
        detail = f"{', '.join(sorted(unrated)) or 'its rating'} gives no number for each example"
        raise TaskUnfit(task=task.task_name, detail=detail)
    return unrated


def _content(task: Any, documents: Sequence[Document]) -> str:
    """The digest of a task's configuration and data: what ratings depend on beside the answers."""
    content = hashlib.sha256(b"pellucid lm-eval task 1\0" + described.configuration(task))
    for document in documents:
        content.update(b"\n" + described.plain(document.fields))
    return content.hexdigest()


class _Shots:
    """Watches the shots that a task draws, so that no question stands among its own shots.

    lm-eval leaves the question out only where fewshot_split names the split of the test."""

    def __init__(self, task: Any) -> None:
        self.replaced = 0  # Documents that were drawn as shots of their own.
        self._task, self._document = task, None
        if sampler := getattr(task, "sampler", None):
            self._context, self._sample = task.fewshot_context, sampler.sample
            task.fewshot_context, sampler.sample = self.context, self.sample

    def context(self, doc: Any, *arguments: Any, **named: Any) -> Any:
        self._document = doc
        return self._context(doc, *arguments, **named)

    def sample(self, n: int, eval_doc: Any = None, **named: Any) -> Sequence[Any]:
        try:
            drawn = self._sample(n=n, eval_doc=eval_doc, **named)
            if self._document in drawn:
                self.replaced += 1
                drawn = self._sample(n=n, eval_doc=self._document, **named)
        except (AssertionError, ValueError) as error:
            detail = f"its data has too few documents for {n} shots"
            raise TaskUnfit(task=self._task.task_name, detail=detail) from error
        return drawn
