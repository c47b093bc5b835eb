"""What a user gives besides a release, which may be anything too: files to
train on, tokenizers, questions.

Each is a file, and what reads it. The readers are those of the verbs `new`, `run` and `sql`.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pellucid.data import sources
from pellucid.data.tokenizer import Tokenizer, existing
from pellucid.new import new
from pellucid.recipe import load as load_recipe
from pellucid.sql import statements, worker
from pellucid.sql import tables as sql_tables

MEMORY = 256 << 20
_TEXT = "Light through clear water shows every stone.\nnaïve café 東京\n" * 40
_CHAT = [
    {"role": "user", "content": "Where does it bend?"},
    {"from": "gpt", "value": "At the stone."},
]
_LINES = "".join(json.dumps({"text": f"{number} {_TEXT[:90]}"}) + "\n" for number in range(40))
_ELSEWHERE = "".join(
    json.dumps({"data": {"text": _TEXT[:90]}, "messages": _CHAT}) + "\n" for _ in range(40)
)
_FASTA = "".join(
    f">seq{number} one\n; a comment\nACGT ACGT\nGGTA{'ACGT' * 40}\n" for number in range(40)
)
_QUERIES = [
    "SELECT source, fsum(loss_sum) / sum(tokens) AS loss FROM sources GROUP BY source ORDER BY "
    "loss",
    "WITH late AS (SELECT * FROM steps WHERE step > 3) FROM late JOIN validation USING (step)",
    "SELECT * FROM range(3), (VALUES (1, 'a')) AS t(x, y) UNION ALL SELECT 1, 2, 'b' LIMIT 5",
    "DESCRIBE steps",
]


def gathered(path: Path) -> None:
    """A file to train on: the recipe that `new` makes for it, and all of its documents."""
    run = path.with_name("run")
    shutil.rmtree(run, ignore_errors=True)
    new(run, [str(path)], "1M", ["data.max_document_characters=300"])
    recipe = load_recipe(run)
    for reader in sources.readers(recipe, run):
        for document, _ in reader.documents():
            document.text.encode()


def taken(path: Path) -> None:
    """Somebody else's tokenizer.json."""
    made = Tokenizer(existing(path, follow=True), path)
    made.decode(list(range(20)))
    made.encode("the river, 東京\n")


def asked(path: Path) -> None:
    """A question, up to the point at which it would be answered: in a process of its own."""
    query = path.read_bytes().decode("utf-8", "replace")
    with worker.named_errors(path), sql_tables.engine(MEMORY) as connection:
        statements.check(connection, query)
        statements.views_in(query)


def _parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": [_TEXT] * 3}), sink)
    return sink.getvalue()


INPUTS: list[tuple[str, bytes, Callable[[Path], None]]] = [
    ("book.txt", _TEXT.encode(), gathered),
    ("book-16.txt", _TEXT.encode("utf-16"), gathered),
    ("book-1.txt", "naïve café, déjà vu\n".encode("cp1252") * 60, gathered),
    ("notes.jsonl", _LINES.encode(), gathered),
    ("elsewhere.ndjson", _ELSEWHERE.encode(), gathered),
    ("list.json", json.dumps([{"text": _TEXT}] * 3).encode(), gathered),
    ("seq.fa", _FASTA.encode(), gathered),
    ("book.txt.gz", gzip.compress(_TEXT.encode()), gathered),
    ("notes.jsonl.xz", lzma.compress(_LINES.encode()), gathered),
    ("notes.jsonl.bz2", bz2.compress(_LINES.encode()), gathered),
    ("notes.jsonl.zst", pa.compress(_LINES.encode(), "zstd", asbytes=True), gathered),
    ("rows.csv", b"a,text\n" + b'1,"a text, quoted"\n' * 40, gathered),
    ("rows.parquet", _parquet(), gathered),
    *((f"question-{number}.sql", query.encode(), asked) for number, query in enumerate(_QUERIES)),
]
