"""Tokens and bytes per token of each split pattern, at a run's vocabulary, on its own documents.

python bench/patterns.py demo
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from pellucid.data import kinds, stage
from pellucid.data.parquet import Documents
from pellucid.data.tokenizer import Tokenizer
from pellucid.recipe import Tokenizer as Fields
from pellucid.recipe import load


def counted(made: Tokenizer, documents: Documents, split: str) -> tuple[int, int]:
    """Tokens of a split's texts, and their bytes."""
    tokens = size = 0
    for batch in documents.rows(["text"], split):
        texts = batch.column(0).to_pylist()
        tokens += sum(len(ids) for ids in made.encode_batch(texts))
        size += sum(len(text.encode()) for text in texts)
    return tokens, size


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, nargs="?", default=Path("demo"))
    folder = parser.parse_args().run
    documents, fields = Documents.open(folder), load(folder).tokenizer
    meter = stage.Meter(stage.silent, "tokenizer", "characters")
    print(
        f"{'pattern':10}{'train tokens':>14}{'bytes/token':>13}"
        f"{'validation tokens':>19}{'bytes/token':>13}"
    )
    for pattern in get_args(Fields.model_fields["pattern"].annotation):
        asked = fields.model_copy(update={"kind": "bpe", "pattern": pattern})
        made = Tokenizer(kinds.made(asked, documents, meter), folder)
        row = f"{pattern:10}"
        for split, wide in (("train", 14), ("validation", 19)):
            tokens, size = counted(made, documents, split)
            row += f"{tokens:{wide},}{size / tokens:13.3f}"
        print(row, flush=True)


if __name__ == "__main__":
    main()
