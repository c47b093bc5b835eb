from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from pellucid.kernels import library
from tests.kernels.machine import assert_everywhere


@pytest.fixture(scope="module")
def everywhere() -> Iterator[Callable[..., None]]:
    """assert_everywhere; afterwards the best instruction set and one thread again."""
    yield assert_everywhere
    library.set_threads(1)
