"""Faults of a task's YAML file and of its data, told by the field or the line to correct: lm-eval
names no field for some of them, and accepts others."""

from __future__ import annotations

import copy
import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

from pellucid.errors import (
    PellucidError,
    RightChoiceMissing,
    TaskDataInvalid,
    TaskInvalid,
    one_line,
)
from pellucid.evaluate import described
from pellucid.store import files

_SPLITS = ("test_split", "validation_split", "training_split", "fewshot_split")
_TEMPLATES = ("doc_to_target", "doc_to_text", "doc_to_choice")
_UNDEFINED = re.compile("'(.+)' is undefined").match  # As jinja2 says it.
_FORMATS = ("json", "csv", "parquet", "text")  # Of files: a dataset_path that is no data set.
_NO_TASK = "it has no key task, which names the task"
_LONGEST = 60  # Of a value in a message.


def check(task: Any, limit: int | None = None) -> None:
    """Refuse a task that lm-eval loads, and that gives no number or a wrong one. Raises
    TaskInvalid, RightChoiceMissing."""
    if detail := _unknown_metric(task):
        raise TaskInvalid(task=task.task_name, detail=detail)
    if _rates_choices(task):
        _check_choices(task, limit)


def of(error: Exception, name: str) -> PellucidError:
    """What lm-eval failed at when it loaded a task. Raises TaskInvalid."""
    task = _half_made(error)
    if task is None:
        shapeless = str(error).startswith("Unknown config shape")
        return TaskInvalid(task=name, detail=_NO_TASK if shapeless else described.failure(error))
    if type(error).__name__ == "DatasetGenerationError":
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        detail = _broken_line(task) or one_line(cause)
        return TaskDataInvalid(task=name, detail=detail)
    if type(error) is KeyError and (detail := _unknown_split(task) or _unknown_metric(task)):
        return TaskInvalid(task=name, detail=detail)
    if detail := _wrong_field(task, error):
        return TaskInvalid(task=name, detail=detail)
    if type(error) is IndexError and _rates_choices(task):  # It takes the first right choice.
        try:
            _check_choices(task, None)
        except PellucidError as known:
            return known
        except Exception as other:
            raise TaskInvalid(task=name, detail=described.failure(other)) from other
    return TaskInvalid(task=name, detail=described.failure(error) + near_format(error))


def near_format(error: Exception) -> str:
    """The format of files that a dataset_path may mean which nobody has."""
    task = _half_made(error)
    path = task.config.dataset_path if task is not None else None
    near = _near(path, _FORMATS) if path not in _FORMATS else ""
    return f"; its dataset_path is {path}{near}" if near else ""


def _half_made(error: BaseException) -> Any:
    """The task that lm-eval was making when it failed; None if it had not begun one."""
    trace, task = error.__traceback__, None
    while trace is not None:
        local = trace.tb_frame.f_locals.get("self")
        task = local if hasattr(local, "OUTPUT_TYPE") and hasattr(local, "config") else task
        trace = trace.tb_next
    return task


def _near(word: object, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(str(word), known, n=1)
    return f" (near: {near[0]})" if near else ""


def _short(value: object) -> str:
    written = str(value) if isinstance(value, str) else repr(value)
    return written if len(written) <= _LONGEST else f"{written[:_LONGEST]}…"


# ---- the file -----------------------------------------------------------------------------------


def _unknown_metric(task: Any) -> str:
    """A metric that lm-eval passes over, and that the library evaluate does not load either."""
    from lm_eval.api.registry import METRIC_REGISTRY

    if task.config.process_results is not None:
        return ""  # It names its numbers itself.
    for listed in task.config.metric_list or ():
        name = listed.get("metric")
        if isinstance(name, str) and getattr(task, "_metric_fn_list", {}).get(name, 0) is None:
            near = _near(name, [*METRIC_REGISTRY])
            return f"neither lm-eval nor the library evaluate has its metric {name}{near}"
    return ""


def _unknown_split(task: Any) -> str:
    known = [*map(str, getattr(task, "dataset", None) or ())]
    for field in _SPLITS:
        split = getattr(task.config, field)
        if known and split is not None and split not in known:
            near, splits = _near(split, known), ", ".join(known)
            return f"{field} is {split}{near}, and its data has only these splits: {splits}"
    return ""


def _wrong_field(task: Any, error: Exception) -> str:
    """A field of the data that there is not, where a template names it or doc_to_choice is it."""
    if undefined := _UNDEFINED(str(error)):
        for field in _TEMPLATES:
            if undefined[1] in str(getattr(task.config, field)):
                near = _near(undefined[1], task.features)
                return f"{field} names {undefined[1]}{near}, and the data has no such field"
    if type(error) is ValueError and hasattr(task, "features"):
        why = _no_field(task, "doc_to_choice")
        return f"doc_to_choice gives no choices{why}" if why else ""
    return ""


# ---- right choices ------------------------------------------------------------------------------


def _rates_choices(task: Any) -> bool:
    """Whether lm-eval rates choices by the right one. A task with code of its own may not."""
    from lm_eval.api.task import ConfigurableTask

    own = type(task) is not ConfigurableTask or task.config.process_results is not None
    return task.OUTPUT_TYPE == "multiple_choice" and not own


def _check_choices(task: Any, limit: int | None) -> None:
    """lm-eval rates every answer as wrong where no choice is right."""
    field = "doc_to_text" if task.multiple_input else "doc_to_target"
    count, without = 0, list[tuple[int, Any, int]]()
    for number, document in task.doc_iterator(limit=limit):
        count += 1
        fields = copy.deepcopy(document)
        right, choices = getattr(task, field)(fields), task.doc_to_choice(fields)
        if not _is_right(right, choices):
            without.append((number, right, len(choices)))
    if without:
        first, right, choices = without[0]
        raise RightChoiceMissing(
            task=task.task_name,
            missing=f"{len(without):,}",
            count=f"{count:,}",
            first=first,
            field=field,
            right=_short(right),
            last=choices - 1,
            why=_no_field(task, field),
        )


def _is_right(right: Any, choices: Sequence[Any]) -> bool:
    """Whether one choice or more is right, as lm-eval reads it."""
    if isinstance(right, str):
        return right in choices
    numbers = right if isinstance(right, list) else [right]
    return any(isinstance(one, Integral) and 0 <= int(one) < len(choices) for one in numbers)


def _no_field(task: Any, field: str) -> str:
    """Where a field of the YAML file is one word, and the data has no such field."""
    value = getattr(task.config, field)
    if not isinstance(value, str) or value in task.features or not value.isidentifier():
        return ""
    return f", and the data has no field {value}{_near(value, task.features)}"


# ---- the data -----------------------------------------------------------------------------------


def _broken_line(task: Any) -> str:
    """The first line that is no JSON, in files of JSON lines on this disk; "" if there is none."""
    kwargs = task.config.dataset_kwargs or {}
    if task.config.dataset_path != "json" or "field" in kwargs:
        return ""
    for path in _files(kwargs.get("data_files")):
        with files.open_file(path, follow=True) as lines:
            for number, line in enumerate(lines, 1):
                if number == 1 and line.lstrip().startswith(b"["):
                    break  # One array, over several lines.
                try:
                    json.loads(line) if line.strip() else None
                except ValueError as error:
                    return f"line {number:,} of {path} is no JSON: {one_line(error)}"
    return ""


def _files(listed: Any) -> Iterator[Path]:
    """The files of JSON lines of data_files: a name, a list of them, or either for each split."""
    if isinstance(listed, Mapping):
        listed = [*listed.values()]
    if isinstance(listed, list | tuple):
        for one in listed:
            yield from _files(one)
    elif isinstance(listed, str):
        paths = sorted(Path(listed).parent.glob(Path(listed).name))
        yield from (path for path in paths if path.suffix in (".jsonl", ".json"))
