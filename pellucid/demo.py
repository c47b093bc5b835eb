"""The whole job on a small corpus, in a few minutes: from raw text to a release that verifies."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from pellucid.data.documents import Documents
from pellucid.errors import HeadDiffers
from pellucid.look import baselines
from pellucid.look.status import status
from pellucid.store.ledger import LedgerFile

DATA = ["package:sympy"]
PRESET = "1M"
SETTINGS = [
    "data.sources.sympy.licence=BSD-3-Clause",  # Its metadata says only "BSD".
    # Of what was tried in the same minutes this learns most (bench/curves.py, docs/optimizers.md).
    "optimizer.kind=muon",
    "train.lr=8e-3",
    "train.steps=900",
    "model.family=qwen3",
    "model.context=128",
    "tokenizer.vocabulary=4096",
]

# What the demo gives on every machine, as README.md states it.
RECIPE = "2a400cb88388e3022017b60a10e2cd4a29eb4df63b25398e19d504eaffaa2fbe"
DATA_ROOT = "37879ae840abe73225808805c93dc7193f67385840315e9158de8704dfa765d7"
HEAD = "e856992185b8fd1c32472df6959f5e63cb4dd180b64bb1cef8b50d882c794daa"


@dataclass(frozen=True, slots=True)
class Compared:
    """Bits per byte on the same bytes: the validation documents that the loss was measured on."""

    bytes: int
    model: float
    gzip: float
    xz: float
    unigram: float


def compare(folder: Path) -> Compared:
    """The model's bits per byte beside gzip's, xz's and the entropy of single bytes."""
    about, (content, of) = status(folder)["validation"][-1], baselines.validated(folder)
    packed = baselines.packed(content, of)
    counts, total = Counter(content), len(content)
    return Compared(
        bytes=total,
        model=about["bits_per_byte"],
        gzip=8 * packed.gzip / total,
        xz=8 * packed.xz / total,
        unigram=math.fsum(count / total * math.log2(total / count) for count in counts.values()),
    )


def reproduced(folder: Path) -> str:
    """One line on whether this machine made the bits that README.md states. Raises HeadDiffers."""
    ledger = LedgerFile(folder)
    if ledger.genesis["recipe"] != RECIPE:
        return f"head {ledger.head}: another recipe than README's, and so another head"
    if ledger.genesis["data"] != DATA_ROOT:
        return (
            f"head {ledger.head}: other texts than README's, "
            "from another release of SymPy or tokenizers"
        )
    if ledger.head != HEAD:
        raise HeadDiffers(path=folder, found=ledger.head, stated=HEAD)
    return f"head {ledger.head} = README: your machine made the same bits"


def prompt(folder: Path) -> str:
    """A few letters that a text of this corpus may begin with: the first validation document's."""
    batch = next(iter(Documents.open(folder).rows(["text"], split="validation")))
    word = str(batch.column(0)[0]).split(maxsplit=1)[0][:12]
    return "".join(c for c in word if c.isalnum() or c in " _.,") or "The"
