"""Verifying and asking a simulated ledger of a million steps.

python bench/ledger.py [--steps 1000000]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from pellucid import machine
from pellucid.record import chain, digests, verdict
from pellucid.record.entries import DECIMAL, DIGEST, FLOAT, STEP
from pellucid.record.guards import Rule, Rules
from pellucid.store import layout, log
from pellucid.store.ledger import LedgerFile


def write(path: Path, steps: int) -> None:
    """A ledger of the right shape whose digests are made up."""
    path.parent.mkdir(parents=True)
    bodies = (body for step in range(steps + 1) for body in entries(step, steps))
    with path.open("wb") as file:
        file.writelines(chain.lines_of(bodies, chain.LedgerTip()))


def entries(step: int, steps: int) -> list[dict[str, object]]:
    digest = f"{step:064x}"
    if step == 0:
        named = dict.fromkeys(("recipe", "data", "tokenizer", "weights", "state"), digest)
        about = {"format": 1, "arithmetic": "portable 1", "pipeline": 2, "recipe_version": 4}
        return [{"kind": "genesis", **about, **named}]
    values = {DIGEST: digest, FLOAT: digests.float_bits(1.0 / step), DECIMAL: str(step * 4096)}
    body = {
        "kind": "step",
        "step": step,
        **{name: values[written] for name, written in STEP.items()},
    }
    return [body, {"kind": "end", "step": step}] if step == steps else [body]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=1_000_000)
    steps = parser.parse_args().steps
    # As in a recipe that names none.
    rules = Rules((Rule("loss", "note", 8.0, 0.1, 1),), 64, "stop", 50, 3)
    plan = verdict.Plan(
        recipe=f"{0:064x}",
        steps=steps,
        tokens=lambda step: 4096 * step,
        tokens_of=lambda first, last: 4096 * np.arange(first, last + 1, dtype=np.uint64),
        validates=lambda step: False,
        checkpoints=lambda step: False,
        learning_rate=lambda step: 1.0 / step,
        genesis={},
        rules=rules,
    )
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / layout.LEDGER
        write(path, steps)
        started, busy = time.perf_counter(), time.process_time()
        problems = list(verdict.judge(layout.LEDGER, log.read_together(path), plan))
        verified, busy = time.perf_counter() - started, time.process_time() - busy
        started = time.perf_counter()
        LedgerFile(Path(place)).step(steps // 3)
        shown = time.perf_counter() - started
        ledger = LedgerFile(Path(place))
        started = time.perf_counter()
        asked = [ledger.step(1 + number * 7919 % steps)["step"] for number in range(100)]
        each = (time.perf_counter() - started) / len(asked)
        size = path.stat().st_size
    peak = machine.peak() / 1024**2
    print(f"{steps:,} steps, {size / 1e6:,.0f} MB")
    print(
        f"  verified in        {verified:.1f} s, {busy:.1f} s of processor time "
        f"({len(problems)} problems)"
    )
    print(f"  peak memory        {peak:,.0f} MB")
    print(
        f"  opened and one step asked in  {shown * 1e3:.2f} ms; each further one in "
        f"{each * 1e3:.2f} ms"
    )


if __name__ == "__main__":
    main()
