"""Tensors in shards, hashed by the processes of torchrun; each writes the roots that it comes to.

Each has a file of its own: what several processes print lies in one pipe, lines cut by lines.

python -m torch.distributed.run … -m tests.train.shards FOLDER
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pellucid.record import elements, entries

# Less than a chunk, rows and columns of odd lengths, fewer rows than processes.
SHAPES = {
    ("F32", (331, 593)): 0,
    ("BF16", (67_001, 3)): 0,
    ("F16", (5, 70_001)): 1,
    ("F32", (2, 9)): 0,
    ("BF16", (301, 3, 401)): 2,
}


def tensor(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """Any bits, the same for the same type and shape."""
    kind, count = elements.DTYPES[dtype], int(np.prod(shape))
    drawn = np.random.default_rng(count).bytes(count * kind.itemsize)
    return np.frombuffer(drawn, kind).reshape(shape)


def drawn() -> Iterator[np.ndarray]:
    return (tensor(*one) for one in SHAPES)


def main(folder: Path) -> None:
    from pellucid.train import messages, sharded

    with messages.joined(Path(), "cpu") as processes:
        found = []
        for array, axis in zip(drawn(), SHAPES.values(), strict=True):
            own = np.array_split(array, processes.count, axis)[processes.rank]
            content = sharded.content(processes, own, axis)
            found.append(entries.group_root("weights", {"one": content}).hex())
        (folder / f"{processes.rank}.json").write_text(json.dumps(found), "utf-8")
        if processes.rank:  # The first one sends all others home.
            processes.told()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
