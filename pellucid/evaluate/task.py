"""What is asked of a model under one name, wherever it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pellucid import __version__
from pellucid.record import evaluations, metrics
from pellucid.record.evaluations import Settings
from pellucid.record.requests import Answer, Example

OURS = (evaluations.OURS, __version__)


@dataclass(frozen=True)
class Task:
    """Examples, and the metric that rates their answers."""

    name: str
    metric: str  # Of record/metrics.py.
    examples: Sequence[Example]
    settings: Settings = field(default_factory=dict)
    # The program that made the examples, and its version.
    harness: tuple[str, str] = field(kw_only=True)
    chance: float | None = None  # What a model that reads no context has in the mean, if known.

    def rated(self, answers: Sequence[Answer]) -> tuple[str, list[Mapping[str, float]]]:
        """The metric, and the numbers of each example."""
        numbers = []
        for example, answer in zip(self.examples, answers, strict=True):
            rated = metrics.numbers_of(self.metric, example.request, example.target, answer)
            assert rated is not None, f"{self.metric} does not rate {example.name} of {self.name}"
            numbers.append(rated)
        return self.metric, numbers
