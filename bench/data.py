"""The data room beside `tokenizers` alone, on the same text: one command, one table.

    python bench/data.py [--data PATH|package:NAME|FORMAT:PATH] [--repeat N]

Each row is one process of its own, so that its peak memory is its own. MB are 10^6 bytes of the
UTF-8 of the documents that were kept; for training, of those in the sample. With --repeat the rows
take turns and the table shows medians. The peers get the texts from memory, in the batches that the
stage uses, and only the library's own calls are timed; the stages read, hash and write as well."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROWS = {
    "documents": "documents (read, hash, dedup, Parquet)",
    "tokenizer": "tokenizer (BPE training)",
    "shards": "shards (encode, write, roots)",
    "verify": "roots recomputed (verify)",
    "peer_train": "tokenizers alone: training",
    "peer_fast": "tokenizers alone: encode_batch_fast",
    "peer_batch": "tokenizers alone: encode_batch",
}


def recipe_for(data: str, vocabulary: int, context: int):
    from pellucid import recipe
    from pellucid.data.guess import guess

    name, form, path, _ = guess(data)[0]
    source = {
        "name": name,
        "format": form,
        "path": path if form == "package" else str(Path(path).resolve()),
    }
    values = {
        "name": "bench",
        "data": {"sources": (source,)},
        "tokenizer": {"vocabulary": vocabulary},
        "model": {"context": context},
    }
    return recipe.Recipe.model_validate(values)


def texts_of(folder: Path, recipe) -> Iterator[list[str]]:
    """The documents' texts in the batches of the stage "shards"."""
    from pellucid.data.parquet import Documents
    from pellucid.data.shards import batches

    for part in Documents.open(folder).parts:
        for split in ("train", "validation"):
            for batch in batches(part, split):
                yield batch.texts


def peer_train(folder: Path, recipe) -> tuple[float, int]:
    """The same trainer and settings on the same sample."""
    from pellucid.data import kinds, stage
    from pellucid.data.parquet import Documents

    meter = stage.Meter(stage.silent, "tokenizer", "characters")
    sample = list(kinds.sample(Documents.open(folder), recipe.tokenizer.sample_characters, meter))
    size = sum(len(text.encode()) for texts in sample for text in texts)
    fields = recipe.tokenizer
    made, trainer = kinds.untrained_bpe(fields.vocabulary, fields.pattern, fields.max_pretoken)
    start = time.perf_counter()
    made.train_from_iterator(iter(sample), trainer)
    return time.perf_counter() - start, size


def peer_encode(folder: Path, recipe, method: str) -> tuple[float, int]:
    """The same tokenizer on the same documents; the results are dropped."""
    import tokenizers

    made = tokenizers.Tokenizer.from_file(str(folder / "data/tokenizer/tokenizer.json"))
    seconds, size = 0.0, 0
    for texts in texts_of(folder, recipe):
        start = time.perf_counter()
        getattr(made, method)(texts, add_special_tokens=False)
        seconds += time.perf_counter() - start
        size += sum(len(text.encode()) for text in texts)
    return seconds, size


def stage_of(name: str, folder: Path, recipe) -> tuple[float, int]:
    from pellucid.data import documents, shards, tokenizer

    start = time.perf_counter()
    {"documents": documents, "tokenizer": tokenizer, "shards": shards}[name].prepare(recipe, folder)
    seconds = time.perf_counter() - start
    found = documents.Documents.open(folder)
    size = int(found.manifest["bytes"])
    if name == "tokenizer":
        characters = int(found.manifest["characters"])
        size = min(size, round(size * recipe.tokenizer.sample_characters / characters))
    return seconds, size


def verify(folder: Path, recipe) -> tuple[float, int]:
    from pellucid.data.parquet import Documents
    from pellucid.data.roots import recompute_root

    start = time.perf_counter()
    root, problems = recompute_root(folder, recipe)
    seconds = time.perf_counter() - start
    assert root and not problems, problems
    return seconds, int(Documents.open(folder).manifest["bytes"])


def measure(row: str, folder: Path, recipe) -> dict[str, float]:
    """Run one row in this process."""
    run: Callable[[], tuple[float, int]] = {
        "peer_train": lambda: peer_train(folder, recipe),
        "peer_fast": lambda: peer_encode(folder, recipe, "encode_batch_fast"),
        "peer_batch": lambda: peer_encode(folder, recipe, "encode_batch"),
        "verify": lambda: verify(folder, recipe),
    }.get(row, lambda: stage_of(row, folder, recipe))
    from pellucid import machine

    seconds, size = run()
    peak = machine.peak()
    return {"seconds": seconds, "bytes": size, "peak": peak}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="package:sympy")
    parser.add_argument("--vocabulary", type=int, default=4096)
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument(
        "--out", type=Path, help="work in this folder, which must be empty, and keep it"
    )
    parser.add_argument("--row", choices=ROWS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        recipe = recipe_for(options.data, options.vocabulary, options.context)
        print(json.dumps(measure(options.row, options.out, recipe)))
        return
    found: dict[str, list[dict[str, float]]] = {row: [] for row in ROWS}
    for number in range(options.repeat):
        with tempfile.TemporaryDirectory() as temporary:
            folder = (options.out or Path(temporary)) / str(number)
            folder.mkdir(parents=True)
            for row in ROWS:
                command = [
                    sys.executable,
                    __file__,
                    *sys.argv[1:],
                    "--row",
                    row,
                    "--out",
                    str(folder),
                ]
                found[row].append(
                    json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
                )
    table(options, found)


def table(options: argparse.Namespace, found: dict[str, list[dict[str, float]]]) -> None:
    size = found["documents"][0]["bytes"] / 1e6
    print(f"{options.data}: {size:.1f} MB, vocabulary {options.vocabulary}, {os.cpu_count()} cores")
    print(f"{platform.machine()}, Python {platform.python_version()}, median of {options.repeat}\n")
    print(f"{'':42}{'MB':>9}{'s':>9}{'MB/s':>9}{'peak MiB':>10}")
    for row, label in ROWS.items():
        seconds = statistics.median(run["seconds"] for run in found[row])
        peak = max(run["peak"] for run in found[row]) / 2**20
        size = found[row][0]["bytes"] / 1e6
        print(f"{label:42}{size:9.1f}{seconds:9.2f}{size / seconds:9.1f}{peak:10.0f}")


if __name__ == "__main__":
    main()
