"""The machine's peak: GFLOP/s of fused multiply-adds in registers, by
`peak.c` and the machine's compiler.

python bench/peak.py [--threads 2] [--repeat 10]
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from pathlib import Path

from measuring import with_interval

SOURCE = Path(__file__).with_name("peak.c")


def compiled(folder: Path) -> Path | None:
    """The program, or None where there is no compiler or the machine has no such instruction."""
    program = folder / "peak"
    command = ["cc", "-O2", "-march=native", "-pthread", str(SOURCE), "-o", str(program)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return program


def measured(program: Path, threads: int, seconds: float = 0.3) -> float:
    """FLOP/s of so many threads at once."""
    done = subprocess.run(
        [program, str(threads), str(seconds)], check=True, capture_output=True, text=True
    )
    return float(done.stdout) * 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=10)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        program = compiled(Path(place))
        if program is None:
            raise SystemExit("cc did not compile bench/peak.c for this machine")
        found = [measured(program, arguments.threads) / 1e9 for _ in range(arguments.repeat)]
    print(f"peak of {arguments.threads} threads: {with_interval(found, '.1f')} GFLOP/s")


if __name__ == "__main__":
    main()
