"""Texts that grow (a KV cache): what attention has read of a text is not read again.

A text keeps its rotated keys and its values in the panels that attention computes on, so that
nothing is rotated or packed twice, and texts of any lengths are read by one call. Its rows have
the bits of attention over the whole text (docs/arithmetic.md, section 2.2)."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from pellucid.kernels import calls, library

_MORE = 64  # Positions, at most, that room is made for before they come.


class Kept:
    """The keys and values of a text's first positions, of every layer.

    Copies share them until they go on, each in room of its own."""

    def __init__(self, layers: int, kv_heads: int, width: int) -> None:
        """width: of a head, C."""
        self.length = 0  # Positions that are kept.
        self._shape, self._tile = (layers, kv_heads, width), library.kernels().pellucid_tile()
        # In tiles of E positions: keys (L, K, P / E, C, E), values (L, K, W / E, P, E), where W is
        # C rounded up to a tile and P the positions that there is room for.
        self._keys = self._values = calls.empty(0)
        self._room, self._own = 0, False

    def copy(self, length: int | None = None) -> Kept:
        """Another text with the same beginning, or with the first positions of it."""
        self._own = False
        other = copy.copy(self)
        other.length = self.length if length is None else length
        return other

    def make_room(self, count: int) -> None:
        """For so many positions more, where no other text writes."""
        end = self.length + count
        if self._own and end <= self._room:
            return
        (L, K, C), E = self._shape, self._tile
        tiles, kept = _tiles(end + min(end, _MORE), E), _tiles(self.length, E)
        keys = calls.empty(L, K, tiles, C, E)
        values = calls.empty(L, K, _tiles(C, E), tiles * E, E)
        if self.length:
            keys[:, :, :kept] = self._keys[:, :, :kept]
            values[:, :, :, : self.length] = self._values[:, :, :, : self.length]
        self._keys, self._values, self._room, self._own = keys, values, tiles * E, True

    def place(self, layer: int) -> tuple[int, int, int, int]:
        """Where a layer's keys and values lie, the room and the length."""
        return (
            self._keys.data_ptr() + 4 * layer * self._keys.stride(0),
            self._values.data_ptr() + 4 * layer * self._values.stride(0),
            self._room,
            self.length,
        )


def _tiles(count: int, tile: int) -> int:
    return -(-count // tile)


def attention(
    layer: int,
    texts: Sequence[Kept],
    counts: Sequence[int],
    qkv: tuple[Tensor, Tensor, Tensor],
    angles: tuple[Tensor, Tensor],
    sees: int,
) -> Tensor:
    """Causal attention of the next positions of texts, all different: so many of each, its rows
    one behind the other in q (N, H, C), k and v (N, K, C). A query sees so many positions, its own
    included. The result has the shape of q.

    The layer's keys and values are kept; after the last layer the caller adds to the lengths."""
    for text, count in zip(texts, counts, strict=True):
        text.make_room(count)
    rows = np.cumsum([0, *counts])
    places = [text.place(layer) for text in texts]
    table_G6 = np.column_stack([np.array(places, np.int64), counts, rows[:-1]]).astype(np.int64)
    longest = int((table_G6[:, 3] + table_G6[:, 4]).max())
    return calls.attention_kept(*qkv, angles, sees, longest, table_G6)
