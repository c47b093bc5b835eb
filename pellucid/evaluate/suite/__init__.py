"""The built-in tasks: made by rule, the same on every machine, without a download."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pellucid.evaluate.suite import code, completion, english, probes
from pellucid.evaluate.task import Task

__all__ = ["BUILT_IN"]

BUILT_IN: Mapping[str, Callable[[], Task]] = {
    make.__name__: make
    for make in (
        *(english.agreement, english.determiners),
        *(code.brackets, code.indentation, code.binding, code.keywords),
        *(probes.induction, probes.copying),
        completion.completion,
    )
}
