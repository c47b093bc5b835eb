"""What training tells: plain values, of NumPy and nothing more, so that any trainer can make them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pellucid.data.streams import Shards
from pellucid.record.entries import Microbatch

Groups = dict[str, dict[str, np.ndarray]]  # A full state: {group: {tensor name: array}}.


@dataclass(frozen=True, slots=True)
class Batch:
    """What one step trains on: B sequences of T+1 tokens."""

    step: int
    number: int  # Which batch of the order.
    sequences_B: np.ndarray  # int64: ids of the sequences.
    epochs_B: np.ndarray  # int64: which epoch each belongs to.
    sources_B: list[str]  # The source each is of.
    tokens_BS: np.ndarray  # uint32, S = T+1.
    documents_BS: np.ndarray  # int64: the document each token is of.

    @classmethod
    def of(cls, shards: Shards, step: int, number: int, sequences_B: np.ndarray, epochs_B: np.ndarray) -> Batch:
        """The batch that these sequences of the shards make."""
        sources = [shards.source_of(int(sequence)) for sequence in sequences_B]
        tokens_BS, documents_BS = shards.sequences_at(sequences_B), shards.documents_at(sequences_B)
        return cls(step, number, sequences_B, epochs_B, sources, tokens_BS, documents_BS)


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
