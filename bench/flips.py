"""Single bits flipped at random places of a sealed release, and whether verify
names the file (and the step).

    python bench/flips.py RELEASE [--flips 500] [--seed 1]

The release is copied first. Half of the flips are drawn by size, half by file,
so that small files are met."""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

from pellucid.release.verify import verify
from pellucid.store import files, layout


def flip(path: Path, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(bit // 8)
        byte = file.read(1)[0]
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))


def step_at(path: Path, offset: int) -> set[str]:
    """How problems may name the ledger entry that holds a byte: itself, or the
    next, which does not follow it."""
    lines = path.read_bytes()[:offset].count(b"\n")
    entries = path.read_bytes().splitlines()
    names = {f"entry {n}" for n in (lines, lines + 1)}
    if lines + 1 >= len(entries):
        names.add("last entry")
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("release", type=Path)
    parser.add_argument("--flips", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    chance, found, met = random.Random(arguments.seed), 0, Counter[str]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(shutil.copytree(arguments.release, Path(name) / "release"))
        paths = files.walk(folder)
        sizes = [(folder / path).stat().st_size for path in paths]
        for number in range(arguments.flips):
            path = chance.choices(paths, sizes)[0] if number % 2 else chance.choice(paths)
            bit = chance.randrange(8 * (folder / path).stat().st_size)
            steps = step_at(folder / path, bit // 8) if path == layout.LEDGER else {""}
            flip(folder / path, bit)
            problems = verify(folder, lambda what: None).problems
            named = any(
                problem.where == path or problem.where.startswith(f"{path}:")
                for problem in problems
            )
            named = named and any(step in problem.where for problem in problems for step in steps)
            found += named
            met[path.split("/")[0]] += 1
            if not named:
                print(f"NOT NAMED: {path} bit {bit}: {json.dumps([p._asdict() for p in problems])}")
            flip(folder / path, bit)
        ok = verify(folder, lambda what: None).ok
    print(f"{found} of {arguments.flips} flips found and named; afterwards ok: {ok}")
    print(f"  drawn from {dict(sorted(met.items()))}")
    sys.exit(found != arguments.flips or not ok)


if __name__ == "__main__":
    main()
