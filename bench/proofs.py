"""Proofs of random things of a release, each checked from the head alone, with bits flipped.

    python bench/proofs.py RELEASE [--things 1000] [--whole 20] [--seed 1]

Of some of them (--whole) every bit is flipped, of each other one bit. Tensors are of steps whose
state is stored, so nothing is replayed. Exit code 1 where a proof fails or a flip passes."""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable
from pathlib import Path

from pellucid import prove
from pellucid.data.documents import Documents
from pellucid.data.streams import Shards
from pellucid.errors import ProofInvalid
from pellucid.record import proofs
from pellucid.store import anchors, layout
from pellucid.store.ledger import LedgerFile


def makers(folder: Path, chance: random.Random) -> dict[str, Callable[[], bytes]]:
    """Of each kind what proves another random thing each time that it is called."""
    ledger, documents, shards = LedgerFile(folder), Documents.open(folder), Shards.open(folder)
    names = [name for batch in documents.rows(["id"]) for name in batch.column(0).to_pylist()]
    steps = layout.steps_in(folder / layout.ANCHORS)
    state = anchors.read(layout.anchor(folder, steps[0]))
    shapes = {(group, name): one.shape for group, of in state.items() for name, one in of.items()}

    def tensor(rows: bool) -> bytes:
        (group, name), shape = chance.choice(list(shapes.items()))
        asked = name if group == prove.WEIGHTS else f"{group}/{name}"
        first = chance.randrange(shape[0])
        return prove.tensor(
            folder, asked, chance.choice(steps), (first, first + 1) if rows else None
        )

    return {
        "document": lambda: prove.document(folder, chance.choice(names)),
        "block": lambda: prove.block(folder, chance.randrange(shards.blocks)),
        "step": lambda: prove.step(folder, chance.randint(ledger.first, ledger.steps_done)),
        "tensor": lambda: tensor(False),
        "chunks": lambda: tensor(True),
    }


def shown(content: bytes, head: str) -> str:
    """Of which kind a file is a proof for a head; empty where it is none."""
    try:
        return proofs.check(content, head).kind
    except ProofInvalid:
        return ""


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("release", type=Path)
    parser.add_argument("--things", type=int, default=1000)
    parser.add_argument("--whole", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    chance, head = random.Random(arguments.seed), LedgerFile(arguments.release).head
    made = makers(arguments.release, chance)
    failed = taken = flips = 0
    for place, (kind, make) in enumerate(made.items()):
        share = len(range(place, arguments.things, len(made)))
        contents = [make() for _ in range(share)]
        failed += sum(shown(content, head) != kind for content in contents)
        whole = len(range(place, arguments.whole, len(made)))
        for number, content in enumerate(contents):
            bits = range(8 * len(content))
            drawn = bits if number < whole else [chance.choice(bits)]
            flips += len(drawn)
            taken += sum(shown(flipped(content, bit), head) != "" for bit in drawn)
        sizes = sorted(map(len, contents))
        middle = sizes[len(sizes) // 2]
        print(f"{kind:9} {share:5} proofs, {middle:,} bytes in the middle, {sizes[-1]:,} at most")
    print(f"{arguments.things} proofs from the head alone, {failed} failed")
    print(f"{flips:,} flipped bits, {taken} taken for a proof")
    sys.exit(bool(failed or taken))


if __name__ == "__main__":
    main()
