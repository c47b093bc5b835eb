"""The built-in tasks' common parts: a task with its version, random choices, and groups of examples
in which no answer is right more often than another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from pellucid.evaluate.task import OURS, Task
from pellucid.philox import draws, key_of
from pellucid.record.requests import Choices, Example

Item = TypeVar("Item")
_DRAWN = 1024  # At a time.


def made(
    name: str,
    version: int,
    metric: str,
    chance: float,
    examples: Sequence[Example],
    kind: type[Task] = Task,
) -> Task:
    """Examples with known answers. Another version has other examples."""
    return kind(name, metric, examples, {"version": version}, harness=OURS, chance=chance)


class Draws:
    """Random choices for a task, the same on every machine."""

    def __init__(self, task: str) -> None:
        self._key, self._used, self._drawn = key_of(1, f"task {task}"), 0, list[int]()

    def below(self, count: int) -> int:
        """A number in 0 … count - 1."""
        if self._used == len(self._drawn):
            self._drawn += draws(self._key, self._used, _DRAWN).tolist()
        self._used += 1
        return self._drawn[self._used - 1] * count >> 32

    def pick(self, items: Sequence[Item]) -> Item:
        return items[self.below(len(items))]

    def sample(self, items: Sequence[Item], count: int) -> list[Item]:
        """Different ones, in random order."""
        left = [*items]
        return [left.pop(self.below(len(left))) for _ in range(count)]


def group(cluster: str, contexts: Sequence[str], choices: Sequence[str]) -> list[Example]:
    """An example for each context: the choice at its place is the right one. A model that prefers a
    choice whatever the context is right in one of them."""
    assert len(contexts) == len(choices) == len({*contexts}) == len({*choices})
    return [
        Example(f"{cluster}/{number}", Choices(context, tuple(choices)), number, cluster)
        for number, context in enumerate(contexts)
    ]


def grouped(
    name: str, size: int, groups: int, make: Callable[[Draws, int], tuple[list[str], list[str]]]
) -> Task:
    """A task of so many groups of this size. make: contexts and choices of the group with this
    number; drawn again where a context was there before."""
    chance, examples, seen = Draws(name), list[Example](), set[str]()
    for number in range(groups):
        contexts, choices = make(chance, number)
        while seen & {*contexts}:
            contexts, choices = make(chance, number)
        assert len(contexts) == size
        examples += group(f"{number:03d}", contexts, choices)
        seen |= {*contexts}
    return made(name, 1, "accuracy", 1 / size, examples)
