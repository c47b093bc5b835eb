"""What training tells: plain values, of NumPy and nothing more, so
that any trainer can make them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pellucid.data.order import Rows
from pellucid.data.streams import Shards
from pellucid.objectives import Use
from pellucid.record import rows as leaves
from pellucid.record.entries import Microbatch

Groups = dict[str, dict[str, np.ndarray]]  # A full state: {group: {tensor name: array}}.


@dataclass(frozen=True, slots=True)
class Batch:
    """What one step trains on: B rows of T+1 tokens."""

    step: int
    blocks_B: np.ndarray  # int64: the block each is of …
    starts_B: np.ndarray  # int64: … and at which of the block's ids it begins.
    epochs_B: np.ndarray  # int64: which pass over its source each belongs to.
    sources_B: list[str]  # The source each is of.
    firsts_B: np.ndarray  # int64: which of its document's tokens each begins with.
    tokens_BS: np.ndarray  # uint32, S = T+1.
    documents_BS: np.ndarray  # int64: the document each token is of.
    weights_BT: np.ndarray | None = None  # uint32: of each target; None: 1.
    groups_B: np.ndarray | None = None  # uint64: rows that are trained on together; None: none.
    references_B: np.ndarray | None = None  # float64: what a reference gave each row.

    @property
    def use(self) -> Use:
        """How the rows are trained on."""
        B, S = self.tokens_BS.shape
        weights_BT, groups_B = self.weights_BT, self.groups_B
        if weights_BT is None:  # One number that is seen everywhere: no memory, and no time.
            weights_BT = np.broadcast_to(np.uint32(1), (B, S - 1))
        if groups_B is None:
            groups_B = np.broadcast_to(np.uint64(leaves.NO_GROUP), (B,))
        return Use(weights_BT, groups_B, self.references_B)

    def named(self, row: int) -> str:
        """What a row is, in words."""
        return f"block {self.blocks_B[row]} from {self.starts_B[row]} on"

    @classmethod
    def of(cls, shards: Shards, step: int, rows: Rows, targets: int) -> Batch:
        """The batch that these rows of the shards make, each of T = targets."""
        sources = [shards.train[source].source for source in rows.sources.tolist()]
        tokens_BS = shards.rows(rows.blocks, rows.starts, targets)
        documents_BS, firsts_B = shards.documents_of(rows.blocks, rows.starts, targets)
        return cls(
            step, rows.blocks, rows.starts, rows.epochs, sources, firsts_B, tokens_BS, documents_BS
        )


@dataclass(frozen=True, slots=True)
class Stepped:
    """What one step did, in plain values."""

    batch: Batch
    losses_BT: np.ndarray  # float32, nats: the loss of every target before the update.
    microbatches: list[Microbatch]
    lr: float
    grad_norm: float  # Before clipping.
    weight_norm: float  # After the update.
    seconds: float


@dataclass(frozen=True, slots=True)
class Validated:
    """Validation at a step; each source: its name, loss_sum in nats, target tokens, UTF-8 bytes."""

    step: int
    sources: list[dict[str, Any]]
