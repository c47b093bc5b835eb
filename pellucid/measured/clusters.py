"""Which examples count as one. Examples share a cluster where their task says so. And to equal
requests a model gives equal answers: asked again, a question tells nothing more, whatever cluster
it is said to be in. So clusters that hold an equal request are one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from pellucid.record import digests
from pellucid.record.requests import Example


class Clusters:
    """The clusters of examples that are taken one by one."""

    def __init__(self, joined: bool = True) -> None:
        """joined: whether equal requests join them; if not, they are as the examples say."""
        self._of = list[str]()  # Of each example the one that it names.
        self._joined, self._first, self._into = joined, dict[bytes, str](), dict[str, str]()

    def take(self, example: Example) -> None:
        own = example.cluster or example.name
        self._of.append(own)
        if self._joined:
            request = hashlib.sha256(digests.canonical(example.request.spelled())).digest()
            other = self._root(self._first.setdefault(request, own))
            if (root := self._root(own)) != other:
                self._into[root] = other

    def names(self) -> list[str]:
        """Of each example its cluster, in the order in which they were taken."""
        return [self._root(own) for own in self._of]

    def _root(self, own: str) -> str:
        root = own
        while root in self._into:
            root = self._into[root]
        while own != root:  # So that no way is walked twice.
            self._into[own], own = root, self._into[own]
        return root


def clusters_of(examples: Iterable[Example]) -> list[str]:
    """Of each example its cluster."""
    clusters = Clusters()
    for example in examples:
        clusters.take(example)
    return clusters.names()
