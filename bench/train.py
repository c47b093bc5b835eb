"""Tokens a second of our portable training step beside PyTorch's, all doing the same work.

    python bench/train.py [--rounds 20] [--models bits 30M] [--peers portable
    eager …] [--threads 2] [--json]

portable               pellucid.train.step, nothing recorded
muon                   the same with Muon in place of AdamW; only where it is asked for
eager                  a plain PyTorch loop (bench/plain.py), float32
compile                the same under torch.compile
compile-deterministic  the same with torch.use_deterministic_algorithms(True)
bf16                   eager, under bf16 autocast; left out on a CPU without bf16 instructions,
                       where it crawls
trainer                Hugging Face's Trainer on LlamaForCausalLM, float32

Every peer is a process of its own with the same number of threads; OpenMP's settings are PyTorch's
own. In each round every peer takes one step on the same random tokens, which it holds ready, while
the others sleep. Two models (bench/shapes.py): "bits", 6.8 million parameters; "30M", the preset
with 8 sequences a step instead of 32, so that a step takes seconds. The first rounds are not
counted. Ratios are taken within a round.

The peak is what fused multiply-adds in registers reach (bench/peak.c), measured once a
round. Memory is the process's peak (VmHWM), everything included: also what
torch.compile took to compile."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import measuring
import peak
import peers
from shapes import MODELS, Shape

BASE = "portable"


class Measured(NamedTuple):
    """Of one model: a value a round, and every peer's memory in bytes (peak,
    and with the libraries alone)."""

    seconds: dict[str, list[float]]
    peaks: list[float]
    memory: dict[str, tuple[int, int]]


def measure(
    shape: Shape, names: list[str], count: int, warmup: int, threads: int, program: Path | None
) -> Measured:
    found = Measured({name: [] for name in names}, [], {})
    started: list[peers.Peer] = []
    try:
        for name in names:
            started.append(peers.Peer(name, shape, threads))
        for number, seconds in enumerate(peers.rounds(started, warmup + count)):
            if number < warmup:
                continue
            for name, value in seconds.items():
                found.seconds[name].append(value)
            if program is not None:
                found.peaks.append(peak.measured(program, threads))
        for peer in started:
            found.memory[peer.name] = peer.stop()
    finally:
        for peer in started:
            peer.end()
    return found


def report(name: str, shape: Shape, found: Measured) -> None:
    count = len(next(iter(found.seconds.values())))
    print(f"{name}: {shape.parameters():,} parameters, steps of {shape.tokens:,} tokens", end="")
    print(f" ({shape.flops() / 1e9:,.1f} GFLOP), {count} rounds")
    if found.peaks:
        print(
            "  peak of fused multiply-adds: "
            f"{measuring.with_interval([p / 1e9 for p in found.peaks], '.1f')} GFLOP/s"
        )
    heads = f"{'tokens/s':>9} {'quartiles':>10}   {BASE + ' / peer':<27}{'share of peak':<25}"
    print(f"  {'':<22}{heads}{'peak MB':>8} {'libraries':>10}")
    for peer in found.seconds:
        print(f"  {row(peer, shape, found)}")


def row(peer: str, shape: Shape, found: Measured) -> str:
    seconds = found.seconds[peer]
    ratio, share = "", ""
    if peer != BASE and BASE in found.seconds:
        ratio = measuring.with_interval(
            [a / b for a, b in zip(seconds, found.seconds[BASE], strict=True)], ".3f"
        )
    if found.peaks:
        share = measuring.with_interval(
            [shape.flops() / s / p for s, p in zip(seconds, found.peaks, strict=True)], ".1%"
        )
    most, libraries = (number / 2**20 for number in found.memory[peer])
    speed = shape.tokens / statistics.median(seconds)
    apart = measuring.quartiles_apart(seconds)
    return (
        f"{peer:<22}{speed:>9,.0f} {apart:>10.1%}   {ratio:<27}{share:<25}{most:>8,.0f} "
        f"{libraries:>10,.0f}"
    )


def available(asked: list[str] | None) -> list[str]:
    """Those asked for, or all that make sense here; a line on stderr for each that is left out."""
    names = []
    for name in asked or (name for name in peers.PEERS if name != "muon"):
        if wanted := peers.missing(name):
            print(
                f"{name} is left out for want of {', '.join(wanted)}: requirements/bench.txt",
                file=sys.stderr,
            )
        elif name == "bf16" and not asked and not measuring.has_bf16():
            print(
                "bf16 is left out: this CPU has no instructions for it; --peers bf16 asks for it",
                file=sys.stderr,
            )
        else:
            names.append(name)
    return names


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=2, help="rounds not counted")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--peers", nargs="+", choices=peers.PEERS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--json", action="store_true", help="every measured value, as JSON, instead of tables"
    )
    return parser.parse_args()


def main() -> None:
    arguments = parsed()
    measuring.forget_thread_settings()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        program = peak.compiled(Path(place))
        if program is None:
            print("no peak: cc did not compile bench/peak.c for this machine", file=sys.stderr)
        names = available(arguments.peers)
        for name in arguments.models:
            shape = MODELS[name]
            others = measuring.Others()
            found = measure(
                shape, names, arguments.rounds, arguments.warmup, arguments.threads, program
            )
            line = others.line()
            results[name] = {
                "tokens": shape.tokens,
                "flops": shape.flops(),
                **found._asdict(),
                "others": line,
            }
            if not arguments.json:
                report(name, shape, found)
                print(f"  {line}", flush=True)
    if arguments.json:
        print(json.dumps({"threads": arguments.threads, "models": results}))


if __name__ == "__main__":
    main()
