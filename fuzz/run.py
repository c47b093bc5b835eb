"""Hostile releases for as long as you like: a small run is made, and its files are
changed and read, over and over.

    python fuzz/run.py [--minutes 60] [--output fuzz-findings]

Which changes come next is led by the coverage of our code (atheris, over LLVM's libFuzzer; pip
install -r requirements/fuzz.txt). A child does the work, so that a crash of a library ends one
child and not the run. It ends with the findings, whose inputs are in the output folder, and exit
code 1 where there are any."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).parents[1]
DATA_LIMIT = 4 << 30  # Bytes a child may have: what `pellucid verify` may.


def child(sealed: Path, output: Path, seconds: int, seed: int) -> None:
    """Fuzz until the time is over; findings are written down and do not end it."""
    import resource

    import atheris

    with atheris.instrument_imports(include=["pellucid"]):
        from fuzz.readers import Release

    resource.setrlimit(resource.RLIMIT_DATA, (DATA_LIMIT, resource.RLIM_INFINITY))
    with tempfile.TemporaryDirectory() as place:
        os.environ["PELLUCID_CACHE"] = place
        release, seen = Release(sealed, Path(place) / "release"), Counter[tuple[str, str, str]]()
        release.read_all()

        def one(data: bytes) -> None:
            for finding in release.attack(data):
                seen[finding.kind] += 1
                if seen[finding.kind] == 1:
                    name = re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(finding.kind))
                    (output / f"{name}.input").write_bytes(data)
                    (output / f"{name}.file").write_bytes(finding.content)
                    print(
                        f"FINDING {finding.reader}: {finding.path}: {finding.what} "
                        f"({finding.where})",
                        flush=True,
                    )

        corpus = output / "corpus"
        corpus.mkdir(exist_ok=True)
        options = [
            f"-max_total_time={seconds}",
            f"-seed={seed}",
            "-max_len=400",
            "-len_control=0",
            "-timeout=300",
        ]
        options += [
            "-rss_limit_mb=0",
            "-print_final_stats=1",
            f"-artifact_prefix={output}/",
            str(corpus),
        ]
        atheris.Setup([sys.argv[0], *options], one)
        atheris.Fuzz()


def small_release(place: Path) -> Path:
    """A sealed run of a few steps, like the one of the tests, with an incident that rolled it back,
    evaluations, and pages of its maker."""
    from fuzz.site import write_pages
    from pellucid.release.publish import publish
    from pellucid.train import loop
    from tests.conftest import finish, make_run, spiking, write_corpus
    from tests.release.evaluating import evaluate, memorised, rewrite

    settings = [
        "guards.window=8",
        "guards.back=2",
        'guards.loss.action="rollback"',
        'record.commitment="microbatches"',
    ]
    folder = make_run(place / "small", write_corpus(place / "stones"), settings)
    with mock.patch.object(loop, "training_step", spiking(loop.training_step, 10)):
        finish(folder)
    rewrite(folder, [*evaluate(folder, [0, 6]), memorised(folder, 6, 3)])
    write_pages(folder)
    publish(folder)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--output", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)  # Release, seconds, seed.
    arguments = parser.parse_args()
    try:
        import atheris  # noqa: F401
    except ModuleNotFoundError:
        sys.exit(
            "fuzz/run.py needs atheris, which is not installed. Install it with: pip install "
            "-r requirements/fuzz.txt"
        )
    output = arguments.output.absolute()
    output.mkdir(parents=True, exist_ok=True)
    if arguments.child:
        child(Path(arguments.child[0]), output, *map(int, arguments.child[1:]))
        return
    with tempfile.TemporaryDirectory() as place:
        sys.exit(supervise(small_release(Path(place)), output, arguments.minutes * 60))


def supervise(sealed: Path, output: Path, seconds: float) -> int:
    """One child after the other until the time is over; what they print goes on, and is counted."""
    ended, inputs, peak, findings = time.monotonic() + seconds, 0, 0, list[str]()
    for seed in range(1, 1000):
        left = round(ended - time.monotonic())
        if left <= 0:
            break
        command = [
            sys.executable,
            __file__,
            "--output",
            str(output),
            "--child",
            str(sealed),
            str(left),
            str(seed),
        ]
        done = 0
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as running:
            assert running.stdout is not None
            for line in running.stdout:
                print(line, end="", flush=True)
                if line.startswith("FINDING"):
                    findings.append(line.strip())
                if found := re.match(r"#(\d+)\s", line):
                    done = int(found.group(1))
                if found := re.match(r"stat::(\w+):\s+(\d+)", line):
                    done = (
                        int(found.group(2))
                        if found.group(1) == "number_of_executed_units"
                        else done
                    )
                    peak = max(peak, int(found.group(2)) if found.group(1) == "peak_rss_mb" else 0)
        inputs += done
        if running.returncode:
            findings.append(
                f"CRASH: a child ended with {running.returncode}; its input is in {output}"
            )
            print(findings[-1], flush=True)
    print(
        f"\n{inputs:,} inputs in {seconds / 60:.0f} minutes, {len(findings)} findings, peak "
        f"memory {peak:,} MB"
    )
    print("\n".join(f"  {one}" for one in findings))
    return 1 if findings else 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
