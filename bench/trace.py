"""Building the trace index and asking it, beside the PyPI package `infini-gram`
on the same tokens, in one run.

    python bench/trace.py [RUN] [--peer-python PEER/bin/python] [--cpus 2]
    [--repeat 1] [--queries 400] [--seed 1]

RUN is a run with its data made, trained or not, `demo` where none is named. Its data and
record are linked into a folder beside it, and the index is built there, so that nothing of RUN
is touched. Without the peer's interpreter (bench/infini.py says how to make one) only our rows
are printed. Builds are timed from the start of the process to its end and take turns; both get
the same cores. Memory is the largest sum over a build's processes, a page that several hold
counted once, mapped files included.

Queries are drawn from the training documents, asked once to warm up, and once for the clock by an
engine opened anew. The peer counts sequences of tokens, `where` counts text. They must agree where
a text is cut into tokens in one way whatever stands around it ("closed"), and `where` must never
find fewer: the exit code is 1 where that is not so. Of a run that is not trained, `where` tells the
steps that its recipe plans, and no losses."""

from __future__ import annotations

import argparse
import os
import platform
import random
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import infini
import measuring

from pellucid import recipe
from pellucid.data import tokenizer
from pellucid.data.parquet import Documents
from pellucid.data.streams import Shards
from pellucid.settings import with_settings
from pellucid.store import layout
from pellucid.trace.where import Traced

BUILD_SPEED, BYTES_A_TOKEN = 4.0, 5.0  # The bars: at least, at most …
COUNT_SECONDS, WHERE_SECONDS = 0.005, 0.050  # … and below.
HITS = 10  # What `where` is asked for with documents and steps.
_GROUPS = 24  # Row groups of documents that queries are drawn from.
_LONGEST = 200  # Characters of a query.

# Cut into tokens in one way wherever it stands: a space with a letter always begins a
# word, three digits end a number.
_CLOSED = re.compile(r" [A-Za-z][^\n]{0,80}?[ -/:-~][0-9]{3}")


class Build(NamedTuple):
    """One engine's builds, and the bytes of its index."""

    name: str
    runs: list[measuring.Watched]
    size: int

    @property
    def seconds(self) -> float:
        return statistics.median(run.seconds for run in self.runs)


def linked(run: Path, folder: Path, cpus: int) -> None:
    """What an index is built from and asked with, as hard links; the recipe
    told how many threads to use."""
    for name in ("data", "metrics", "record"):
        if (run / name).is_dir():
            shutil.copytree(run / name, folder / name, copy_function=os.link)
    content = (run / recipe.FILE).read_bytes()
    told = with_settings(content, [f"placement.threads={cpus}"], run / recipe.FILE)
    (folder / recipe.FILE).write_bytes(told)


def building(folder: Path) -> list[str]:
    """The command that builds our index."""
    work = (
        "import sys; from pathlib import Path; "
        "from pellucid import recipe; from pellucid.trace import index; "
        "folder = Path(sys.argv[1]); index.prepare(recipe.load(folder), folder)"
    )
    return [sys.executable, "-P", "-c", work, str(folder)]


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def drawn(documents: Documents, chance: random.Random) -> list[str]:
    """The training texts of some row groups, each as likely as the others."""
    places = [(part, group) for part in documents.parts for group in range(part.groups)]
    texts = []
    for part, group in chance.sample(places, min(_GROUPS, len(places))):
        splits, some = (
            column.to_pylist() for column in part.read(group, ["split", "text"]).columns
        )
        texts += [text for split, text in zip(splits, some, strict=True) if split == "train"]
    return texts


def anywhere(texts: list[str], number: int, chance: random.Random) -> list[str]:
    """Runs of characters from anywhere, short ones as often as long ones: frequent
    and rare, cut through tokens."""
    sizes, found = [len(text) for text in texts], []
    for text in chance.choices(texts, sizes, k=number):
        length = round(_LONGEST ** chance.random())
        start = chance.randrange(max(1, len(text) - length))
        found.append(text[start : start + length])
    return found


def closed(texts: list[str], number: int, chance: random.Random) -> list[str]:
    """Texts that the tokenizers made here cut in one way wherever they stand."""
    found = [match.group() for text in texts for match in _CLOSED.finditer(text)]
    return chance.sample(found, min(number, len(found)))


def timed(ask: Callable[[str], dict], queries: list[str]) -> tuple[list[int], list[float]]:
    """The counts and the seconds of each query."""
    counts, seconds = [], []
    for query in queries:
        started = time.perf_counter()
        found = ask(query)
        seconds.append(time.perf_counter() - started)
        counts.append(found["count"])
    return counts, seconds


def asked(folder: Path, queries: list[str], limit: int) -> tuple[list[int], list[float]]:
    """As `timed`, warm: an engine that has answered a query, on files that have been read."""
    planned = not (folder / layout.LEDGER).is_file()
    traced = Traced(folder, planned)
    timed(lambda query: traced.where(query, limit=limit), queries)
    traced = Traced(folder, planned)
    traced.where(queries[0][::-1], limit=limit)
    return timed(lambda query: traced.where(query, limit=limit), queries)


def print_builds(builds: list[Build], tokens: int, size: int) -> None:
    print(
        f"\n{'build':28}{'seconds':>9}{'CPU s':>8}{'peak MiB':>10}{'MB/s':>8}"
        f"{'bytes a token':>15}{'of the text':>13}"
    )
    for build in builds:
        cpu, peak = (
            statistics.median(run.cpu for run in build.runs),
            max(run.peak for run in build.runs),
        )
        print(
            f"{build.name:28}{build.seconds:9.1f}{cpu:8.1f}{peak / 2**20:10.0f}"
            f"{size / 1e6 / build.seconds:8.1f}"
            f"{build.size / tokens:15.2f}{build.size / size:13.1%}"
        )
    ours = builds[0]
    print(
        f"bytes a token beyond the shards: {ours.size / tokens:.2f} (bar: at most {BYTES_A_TOKEN})"
    )
    for peer in builds[1:]:
        print(
            f"speed beside {peer.name}: {peer.seconds / ours.seconds:.2f} times (bar: at least "
            f"{BUILD_SPEED})"
        )


def print_asked(name: str, seconds: list[float], bar: float | None = None) -> None:
    ordered = sorted(seconds)
    figures = (statistics.median(ordered), ordered[int(0.95 * len(ordered))], ordered[-1])
    over = f"{sum(one >= bar for one in ordered)} over {bar * 1e3:.0f} ms" if bar else ""
    print(f"{name:44}" + "".join(f"{figure * 1e3:10.3f}" for figure in figures) + f"   {over}")


def differing(
    kinds: dict[str, list[str]], ours: list[int], theirs: list[int], exact: bool
) -> list[tuple[str, int, int]]:
    """Prints how the counts compare; returns the queries whose counts are wrong."""
    wrong, queries = [], [query for some in kinds.values() for query in some]
    rows = iter(zip(queries, ours, theirs, strict=True))
    for kind, some in kinds.items():
        found = [next(rows) for _ in some]
        equal, more = sum(a == b for _, a, b in found), sum(a > b for _, a, b in found)
        print(
            f"counts, {kind}: {equal} of {len(found)} equal, ours larger {more}, smaller "
            f"{len(found) - equal - more}"
        )
        same = exact and kind == "closed"
        wrong += [row for row in found if row[1] < row[2] or (same and row[1] != row[2])]
    return wrong


def main() -> None:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("run", type=Path, nargs="?", default=Path("demo"))
    parser.add_argument("--peer-python", type=Path, help="the interpreter that has infini-gram")
    parser.add_argument(
        "--peer-memory", type=int, default=8, help="GiB that the peer is told it may use"
    )
    parser.add_argument(
        "--peer-shards", type=int, default=1, help="shards of the peer's index, one after the other"
    )
    parser.add_argument(
        "--cpus", type=int, default=os.cpu_count(), help="cores that each build may use"
    )
    parser.add_argument(
        "--repeat", type=int, default=1, help="builds of each; the medians are printed"
    )
    parser.add_argument("--queries", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cpus])
    with tempfile.TemporaryDirectory(dir=options.run.resolve().parent, prefix=".trace-") as place:
        sys.exit(measure(options, Path(place)))


def measure(options: argparse.Namespace, place: Path) -> int:
    """All tables; the exit code."""
    others, folder, peer = measuring.Others(), place / "run", place / "peer"
    folder.mkdir()
    linked(options.run, folder, options.cpus)
    shards, about, made = Shards.open(folder), recipe.load(folder), tokenizer.Tokenizer.load(folder)
    tokens, size = (
        sum(stream.tokens for stream in shards.train),
        sum(stream.bytes for stream in shards.train),
    )
    print(
        f"{options.run}: {tokens:,} train tokens of {size / 1e6:.1f} MB, vocabulary "
        f"{made.vocabulary}"
    )
    about_machine = (
        f"{platform.machine()}, Python {platform.python_version()}, {options.cpus} cores"
    )
    print(f"{about_machine}, builds of each: {options.repeat}", flush=True)
    builds = built(options, folder, peer, shards, made.vocabulary)
    print_builds(builds, tokens, size)

    chance = random.Random(options.seed)
    texts = drawn(Documents.open(folder), chance)
    half = options.queries // 2
    kinds = {"closed": closed(texts, half, chance)}
    kinds["anywhere"] = anywhere(texts, options.queries - len(kinds["closed"]), chance)
    queries = [query for some in kinds.values() for query in some]
    counts, seconds = asked(folder, queries, limit=0)
    rare, frequent = sum(count <= 3 for count in counts), sum(count >= 1000 for count in counts)
    print(
        f"\n{len(queries)} queries, {rare} found up to 3 times, {frequent} at least 1000 times, "
        f"most {max(counts):,}"
    )
    print(f"{'asked warm':44}{'median ms':>10}{'95%':>10}{'worst':>10}")
    print_asked("count, pellucid", seconds, COUNT_SECONDS)
    found, seconds = asked(folder, queries, limit=HITS)
    assert found == counts
    print_asked(f"where, {HITS} hits with documents and steps", seconds, WHERE_SECONDS)
    wrong = [(query, count, 1) for query, count in zip(queries, counts, strict=True) if not count]
    if options.peer_python:
        ids = [made.encode(query) for query in queries]
        theirs = infini.ask(options.peer_python, peer, made.vocabulary, made.document_token, ids)
        print_asked(f"count, infini-gram {theirs.version}", theirs.seconds)
        fields = about.tokenizer
        exact = fields.kind == "bpe" and fields.pattern == "pellucid" and fields.max_pretoken >= 4
        wrong += differing(kinds, counts, theirs.counts, exact)
    for query, ours, expected in wrong[:20]:
        print(f"WRONG: {query!r} counted {ours}, expected {expected} or more")
    print(others.line())
    return bool(wrong)


def built(
    options: argparse.Namespace, folder: Path, peer: Path, shards: Shards, vocabulary: int
) -> list[Build]:
    """Both engines' indexes, each built so often, in turns; the last ones stay."""
    ours, theirs = [], []
    for _ in range(options.repeat):
        shutil.rmtree(folder / "trace", ignore_errors=True)
        ours.append(measuring.watched(building(folder)))
        if options.peer_python:
            if vocabulary >= infini.SEPARATOR:
                raise SystemExit(
                    f"infini-gram takes a vocabulary below {infini.SEPARATOR}; this one has "
                    f"{vocabulary}"
                )
            shutil.rmtree(peer, ignore_errors=True)
            infini.write(shards, peer, options.peer_shards)
            command = infini.building(
                options.peer_python, peer, options.peer_shards, options.cpus, options.peer_memory
            )
            theirs.append(measuring.watched(command))
    found = [Build("pellucid", ours, size_of(folder / "trace"))]
    return [*found, Build("infini-gram", theirs, infini.size(peer))] if theirs else found


if __name__ == "__main__":
    main()
