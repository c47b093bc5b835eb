"""What a task of lm-eval asks of a document, as requests; and how lm-eval rates the answers."""

from __future__ import annotations

import copy
import math
import numbers
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pellucid.errors import AnswerNotFinite, TaskInvalid, TaskUnfit
from pellucid.evaluate import described
from pellucid.record import requests
from pellucid.record.requests import (
    Answer,
    Choices,
    Example,
    Generate,
    Likelihoods,
    Request,
    Rolling,
    Target,
    Text,
)

_GREEDY = {"until", "do_sample", "temperature", "top_p", "max_gen_toks"}  # What may be set.
_PAIRS = {"word_perplexity": "words", "byte_perplexity": "bytes", "bits_per_byte": "bytes"}
_ODD = re.compile("[^A-Za-z0-9_.,:@/+-]")  # In no number's name.


class Document(NamedTuple):
    """A document of a task, with its instances by their place, and what they come to."""

    name: str
    fields: Mapping[str, Any]
    instances: list[Any]
    examples: list[Example]


def documents(task: Any) -> Iterator[Document]:
    """Of a task whose instances are built. Raises TaskUnfit."""
    by_number: dict[int, list[Any]] = {}
    for instance in task.instances:
        by_number.setdefault(instance.doc_id, []).append(instance)
    for number, instances in by_number.items():
        instances.sort(key=lambda instance: instance.idx)
        fields, name = instances[0].doc, str(number)
        asked = [*_requests(task.task_name, name, instances)]
        target = _target(task, fields, asked)
        names = [name] if len(asked) == 1 else [f"{name}.{place}" for place in range(len(asked))]
        examples = [
            Example(own, request, target, name) for own, request in zip(names, asked, strict=True)
        ]
        yield Document(name, fields, instances, examples)


def made_up(request: Request) -> Answer:
    """An answer that no model gave."""
    if isinstance(request, Generate):
        return Text("")
    count = len(request.choices) if isinstance(request, Choices) else 1
    return Likelihoods(tuple(-1.0 - place for place in range(count)), (False,) * count)


def give(task: Any, document: Document, answers: Sequence[Answer]) -> None:
    """Put the answers where lm-eval reads them. Raises AnswerNotFinite."""
    instances = iter(document.instances)
    for example, answer in zip(document.examples, answers, strict=True):
        if isinstance(answer, Text):
            _give(next(instances), answer.text)
            continue
        assert isinstance(answer, Likelihoods), "lm-eval asks no token ids"
        for nats, greedy in zip(answer.nats, answer.greedy, strict=True):
            if not math.isfinite(nats):
                what = f"the log-likelihood of request {example.name}"
                raise AnswerNotFinite(
                    task=task.task_name, document=document.name, what=what, value=nats
                )
            _give(next(instances), nats if isinstance(example.request, Rolling) else (nats, greedy))


def _give(instance: Any, response: Any) -> None:
    instance.resps, instance.filtered_resps = [response], {}


def ratings(task: Any, document: Document) -> tuple[dict[str, float], set[str]]:
    """How lm-eval rates a document whose answers went through the task's filters: the numbers, and
    the names of what is no number. Raises TaskInvalid, AnswerNotFinite."""
    filters = [*document.instances[0].filtered_resps]
    named, unrated = dict[str, float](), set[str]()
    for key in filters:
        answers = [instance.filtered_resps[key] for instance in document.instances]
        try:
            results = task.process_results(copy.deepcopy(document.fields), answers)
        except Exception as error:
            detail = f"document {document.name} cannot be rated: {described.failure(error)}"
            raise TaskInvalid(task=task.task_name, detail=detail) from error
        suffix = "" if filters == ["none"] else f",{key}"
        for name, value in results.items():
            if not (values := _values(task, name, value)):
                unrated.add(name)
            for label, number in values.items():
                if not math.isfinite(number):
                    raise AnswerNotFinite(
                        task=task.task_name, document=document.name, what=name, value=number
                    )
                named[_ODD.sub("_", label + suffix)[:64]] = number
    return dict(sorted(named.items())), unrated


def _values(task: Any, name: str, value: Any) -> dict[str, float]:
    """What lm-eval says of a document, as numbers by their names; nothing if it is no number."""
    if isinstance(value, numbers.Real | np.bool_):
        # Of a single continuation lm-eval's "perplexity" is the log-likelihood.
        logs = task.OUTPUT_TYPE == "loglikelihood" and name == "perplexity"
        return {"nats" if logs else name: float(value)}
    match value:
        case numbers.Real() as nats, numbers.Real() as count if name in _PAIRS:
            return {"nats": float(nats), _PAIRS[name]: float(count)}
    return {}


def _requests(task: str, document: str, instances: Sequence[Any]) -> Iterator[Request]:
    """Neighbours with one context are one request."""
    place = 0
    while place < len(instances):
        first = instances[place]
        if first.repeats != 1:
            raise TaskUnfit(task=task, detail=f"it asks everything {first.repeats} times")
        match first.request_type, first.args:
            case "loglikelihood", (str() as context, str()):
                choices = []
                for instance in instances[place:]:
                    if instance.args[0] != context:
                        break
                    choices.append(instance.args[1])
                request: Request = Choices(context, tuple(choices))
            case "loglikelihood_rolling", (str() as text,):
                request = Rolling(text)
            case "generate_until", (str() as context, Mapping() as how):
                request = _generate(task, context, how)
            case kind, _:
                raise TaskUnfit(task=task, detail=f"document {document} asks for {kind}")
        if requests.request_of(request.spelled()) is None:
            detail = f"document {document} asks for nothing, or for more than a request may hold"
            raise TaskUnfit(task=task, detail=detail)
        yield request
        place += len(request.choices) if isinstance(request, Choices) else 1


def _generate(task: str, context: str, how: Mapping[str, Any]) -> Generate:
    if others := ", ".join(sorted(map(str, how.keys() - _GREEDY))):
        known = ", ".join(sorted(_GREEDY))
        detail = f"generation_kwargs has {others}, and only these keys are known here: {known}"
        raise TaskUnfit(task=task, detail=detail)
    if how.get("do_sample"):
        detail = "it samples texts, and texts are written greedily"
        raise TaskUnfit(task=task, detail=detail)
    stops = how.get("until") or []
    stops = [stops] if isinstance(stops, str) else stops
    tokens = int(how.get("max_gen_toks", 256))
    return Generate(context, tuple(stop for stop in stops if stop), tokens)


def _target(task: Any, fields: Mapping[str, Any], asked: Sequence[Request]) -> Target:
    """What is right, as far as an example can say it."""
    kinds = {type(request) for request in asked}
    if kinds == {Generate}:
        return described.right_text(task, copy.deepcopy(fields))
    if Generate in kinds:
        raise TaskUnfit(task=task.task_name, detail="it asks for texts and for likelihoods")
    if len(asked) > 1 or kinds != {Choices} or task.OUTPUT_TYPE != "multiple_choice":
        return None
    return described.right_choice(task, copy.deepcopy(fields))
