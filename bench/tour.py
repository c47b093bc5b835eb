"""The outputs in README.md and docs/, held against a demo of this machine.

    python bench/tour.py demo [--write] [PAGE …]

Every command about `demo` that a page shows after `$ ` is run in a folder that holds the demo's
release. A line `…` stands for any lines; times, speeds and sizes of files count as equal. Prints
what differs, and exits with 1. --write takes an output that differs anew and keeps what is left
out. `pellucid demo` itself is not run: what it wrote to the terminal is compared with FILE of
--log, where that is given. `pellucid plan` tells about a machine, and is passed over."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
LEFT_OUT = "…"
# What another run of the same command may print otherwise: a release keeps the package's own code.
VARYING = re.compile(r"\d[\d,.]*(?= s\b| min\b| tokens/s| MB\b)")
BLOCK = re.compile(r"^```(?:console)?\n(\$ pellucid .*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Shown:
    """A command as a page shows it, and the lines below it."""

    command: str
    lines: list[str]


def shown(block: str) -> Iterator[Shown]:
    """The commands of a block, each with its lines."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, *lines = part.rstrip("\n").split("\n")
        yield Shown(command, lines)


def pieces(lines: list[str]) -> list[list[str]]:
    """Lines between those that are left out."""
    out: list[list[str]] = [[]]
    for line in lines:
        if line.strip() == LEFT_OUT:
            out.append([])
        else:
            out[-1].append(line)
    return out


def same(expected: str, actual: str) -> bool:
    """Whether two lines differ in times, speeds and sizes of files alone."""
    return VARYING.sub("#", expected.rstrip()) == VARYING.sub("#", actual.rstrip())


def missing(expected: list[str], actual: list[str]) -> str | None:
    """The first line of a page that the output has not at its place; None where all are there."""
    parts, at = pieces(expected), 0
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        places = [at] if number == 0 else range(at, len(actual) - len(part) + 1)
        if number and last:
            end = len(actual) - len(part)
            places = range(max(at, end), end + 1)  # None where it would begin inside another part.
        for place in places:
            window = actual[place : place + len(part)]
            if len(window) == len(part) and all(map(same, part, window)):
                at = place + len(part)
                break
        else:
            return next(iter(part), "(the end)")
    return None if at == len(actual) or len(parts) > 1 else actual[at]


def taken_anew(expected: list[str], actual: list[str]) -> list[str]:
    """The page's lines where the output has them; otherwise the output with as much left out as
    before, at one place at most in the middle."""
    if missing(expected, actual) is None:
        return expected
    parts = pieces(expected)
    if len(parts) == 1:
        return actual
    first, last = len(parts[0]), len(parts[-1])
    return [*actual[:first], LEFT_OUT, *(actual[-last:] if last else [])]


def about_demo(command: str) -> bool:
    """Whether this machine's release answers it as any other would."""
    verb, *words = shlex.split(command, comments=True)[1:]
    return verb == "demo" or (verb != "plan" and words[:1] == ["demo"])


def output(command: str, folder: Path) -> list[str]:
    """What a command of ours prints as its result, 100 columns wide."""
    words = shlex.split(command, comments=True)[1:]
    environment = {**os.environ, "COLUMNS": "100", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "pellucid", *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    return done.stdout.decode("utf-8", "replace").rstrip("\n").split("\n")


def held(page: Path, folder: Path, log: list[str], write: bool) -> int:
    """How many commands of a page print something else now; with `write` the page has it then."""
    text, wrong = page.read_text("utf-8"), 0
    for block in BLOCK.findall(text):
        new = ""
        for example in shown(block):
            lines = answer(example, folder, log)
            if (line := missing(example.lines, lines)) is not None:
                wrong += 1
                print(f"{page.name}: $ {example.command}\n  now without: {line}", flush=True)
            again = [f"$ {example.command}", *taken_anew(example.lines, lines)]
            new += "\n".join(again) + "\n"
        if write:
            text = text.replace(block, new)
    if write:
        page.write_text(text, "utf-8")
    return wrong


def answer(example: Shown, folder: Path, log: list[str]) -> list[str]:
    """What the command prints here; what the page shows, where nothing here can tell."""
    if not about_demo(example.command):
        return example.lines
    if shlex.split(example.command)[1] == "demo":
        return log or example.lines
    return output(example.command, folder)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("release", type=Path)
    parser.add_argument("pages", type=Path, nargs="*")
    parser.add_argument("--log", type=Path, help="What pellucid demo wrote: pellucid demo 2>&1.")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_intermixed_args()  # PAGE may come after --write.
    pages = arguments.pages or [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
    log = arguments.log.read_text("utf-8").rstrip("\n").split("\n") if arguments.log else []
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "demo").symlink_to(arguments.release.resolve())
        wrong = sum(held(page, Path(name), log, arguments.write) for page in pages)
    print(f"{wrong} outputs differ")
    sys.exit(wrong > 0 and not arguments.write)


if __name__ == "__main__":
    main()
