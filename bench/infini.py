"""The peer of bench/trace.py: the PyPI package `infini-gram`, in an interpreter of its own.

    python -m venv PEER && PEER/bin/pip install infini-gram transformers
    python bench/trace.py RUN --peer-python PEER/bin/python

The peer gets the token ids of the run's train split, document by document, in the files that the
first step of its own indexing writes, with its separator (65535) in the place of our document
token. So it indexes the same tokens, and is measured from there on: what it builds from them is its
suffix array. Its ids are uint16, so a vocabulary must be below
65535. The peer's side of this file, `python bench/infini.py INDEX`, needs nothing of ours.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from pellucid.data.streams import Shards

SEPARATOR = 0xFFFF


class Answers(NamedTuple):
    """What the peer says of the queries, in their order."""

    version: str
    counts: list[int]
    seconds: list[float]


def write(shards: Shards, folder: Path, number: int) -> None:
    """The train split as the peer's token file and document table, in so many of its shards.

    A peer's shard takes whole shards of ours. tokenized.K: documents as uint16 ids, each behind the
    separator; offset.K: where each begins, in bytes, as u64."""
    ours = [shard for stream in shards.train for shard in stream.shards]
    folder.mkdir(parents=True)
    for place, some in enumerate(np.array_split(np.arange(len(ours)), number)):
        begin = 0
        with (
            (folder / f"tokenized.{place}").open("wb") as ids,
            (folder / f"offset.{place}").open("wb") as offsets,
        ):
            for shard in (ours[index] for index in some):
                tokens = shard.load(slice(0, shard.tokens)).astype("<u2")
                firsts = shard.table[:, 1].astype("<u8")
                tokens[firsts] = SEPARATOR
                ids.write(tokens.tobytes())
                offsets.write(((firsts + begin) * tokens.itemsize).tobytes())
                begin += shard.tokens


def building(python: Path, folder: Path, number: int, cpus: int, memory: int) -> list[str]:
    """The command that builds its index from those files; memory in GiB, as it wants to be told."""
    found = {
        "data_dir": folder,
        "save_dir": folder,
        "token_dtype": "u16",
        "shards": number,
        "cpus": cpus,
    }
    found |= {"mem": memory, "ulimit": 1024}
    options = [word for name, value in found.items() for word in (f"--{name}", str(value))]
    return [str(python), "-m", "infini_gram.indexing", *options]


def size(folder: Path) -> int:
    """Bytes of its index beyond the tokens."""
    return sum(
        path.stat().st_size for path in folder.iterdir() if not path.name.startswith("tokenized.")
    )


def ask(
    python: Path, folder: Path, vocabulary: int, document_token: int, queries: list[list[int]]
) -> Answers:
    """How often token sequences occur, once to warm up and once for the
    clock, in the peer's own process."""
    asked = {"vocabulary": vocabulary, "document_token": document_token, "queries": queries}
    command = [str(python), __file__, str(folder)]
    done = subprocess.run(
        command, input=json.dumps(asked), check=True, stdout=subprocess.PIPE, text=True
    )
    return Answers(**json.loads(done.stdout.splitlines()[-1]))


def answer(folder: str, asked: dict[str, Any]) -> dict[str, Any]:
    """The peer's side of `ask`."""
    engine_of = importlib.import_module("infini_gram.engine").InfiniGramEngine
    # uint16 ids, if not told.
    engine = engine_of(folder, asked["document_token"], asked["vocabulary"])
    for ids in asked["queries"]:
        engine.count(ids)
    counts, seconds = [], []
    for ids in asked["queries"]:
        started = time.perf_counter()
        found = engine.count(ids)
        seconds.append(time.perf_counter() - started)
        counts.append(found["count"])
    return {"version": version("infini-gram"), "counts": counts, "seconds": seconds}


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        raise SystemExit(__doc__)
    print(json.dumps(answer(sys.argv[1], json.load(sys.stdin))))
