"""A decoder over texts that share a beginning or that grow: what was read once is not read again.

The rows of all texts stand one behind the other in one batch, without padding; attention alone
sees which text a row belongs to. On portable arithmetic every row has the bits that it has in a
pass over its text alone, whatever stands beside it.

Shapes: N rows of all parts, S of one part, T positions of its text, G parts of equal S and T; the
rest as in families."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pellucid.model import Decoder

_MORE = 64  # Positions, at most, that room is made for before they are read.


class _Kept(NamedTuple):
    """The keys and values of a layer, in room for more positions."""

    k_1RKC: Tensor
    v_1RKC: Tensor
    own: bool  # No other memory has this room, so that it may be written.


class Memory:
    """The keys and values of a text's beginning, of every layer (a KV cache).

    Texts with the same beginning share its tensors until they go on, each in room of its own, which
    is made for several tokens at once: joined anew for each, they took most of a text's time.
    """

    def __init__(self) -> None:
        self._layers: list[_Kept] = []
        self.length = 0  # Positions that were read.

    def copy(self, length: int | None = None) -> Memory:
        """Another text with the same beginning, or with the first positions of it."""
        other = Memory()
        self._layers = [kept._replace(own=False) for kept in self._layers]
        other._layers = [*self._layers]
        other.length = self.length if length is None else length
        return other

    def take(self, layer: int, k_1SKC: Tensor, v_1SKC: Tensor) -> tuple[Tensor, Tensor]:
        """Go on by some positions; returns those of all positions."""
        if layer == len(self._layers):
            self._layers.append(_Kept(k_1SKC, v_1SKC, own=False))
            return k_1SKC, v_1SKC
        kept, end = self._layers[layer], self.length + k_1SKC.shape[1]
        if not kept.own or end > kept.k_1RKC.shape[1]:
            grown = (_room(old, self.length, end) for old in (kept.k_1RKC, kept.v_1RKC))
            kept = self._layers[layer] = _Kept(*grown, own=True)
        kept.k_1RKC[:, self.length : end] = k_1SKC
        kept.v_1RKC[:, self.length : end] = v_1SKC
        return kept.k_1RKC[:, :end], kept.v_1RKC[:, :end]


def _room(x_1RKC: Tensor, length: int, end: int) -> Tensor:
    """Room for more than `end` positions, with the first ones in it."""
    room = x_1RKC.new_empty((1, end + min(end, _MORE), *x_1RKC.shape[2:]))
    room[:, :length] = x_1RKC[:, :length]
    return room


class Part(NamedTuple):
    """Tokens to read behind what a memory holds."""

    memory: Memory
    tokens: Sequence[int]


class _Row(NamedTuple):
    """A part in one layer."""

    place: int  # Among the parts.
    q_1SHC: Tensor
    k_1TKC: Tensor
    v_1TKC: Tensor


def read(model: Decoder, parts: Sequence[Part]) -> tuple[Tensor, Tensor]:
    """What the output projection reads of every row, (1, N, D), and the projection itself. The
    memories then hold these rows too."""
    counts = [len(part.tokens) for part in parts]

    def attention(
        layer: int,
        q_1NHC: Tensor,
        k_1NKC: Tensor,
        v_1NKC: Tensor,
        rotary: tuple[Tensor, Tensor],
        _: Tensor | None,
    ) -> Tensor:
        rows = zip(*(x.split(counts, 1) for x in (q_1NHC, k_1NKC, v_1NKC)), strict=True)
        sees, alike = model.shape.sees(layer), dict[tuple[int, int], list[_Row]]()
        for place, (part, (q_1SHC, k_1SKC, v_1SKC)) in enumerate(zip(parts, rows, strict=True)):
            kept = part.memory.take(layer, k_1SKC, v_1SKC)
            sizes = kept[0].shape[1], q_1SHC.shape[1]
            alike.setdefault(sizes, []).append(_Row(place, q_1SHC, *kept))
        results: list[Tensor] = [q_1NHC] * len(parts)
        for (T, S), group in alike.items():  # One call for all texts of equal lengths.
            q_GSHC = _together([row.q_1SHC for row in group])
            k_GTKC = _together([row.k_1TKC for row in group])
            v_GTKC = _together([row.v_1TKC for row in group])
            first_1S = _first(T, S, sees, q_1NHC.device)
            first_GS = None if first_1S is None else first_1S.repeat(len(group), 1)
            result_GSHC = model.ops.attention(q_GSHC, k_GTKC, v_GTKC, rotary, first_GS)
            for row, result_1SHC in zip(group, result_GSHC.split(1), strict=True):
                results[row.place] = result_1SHC
        return torch.cat(results, 1)

    tokens_N = torch.tensor([token for part in parts for token in part.tokens])
    with torch.no_grad():
        hidden = model.hidden(tokens_N[None].to(model.device), attention=attention)
    for part in parts:
        part.memory.length += len(part.tokens)
    return hidden


def _together(rows: list[Tensor]) -> Tensor:
    """One batch of them all; of one text no copy."""
    return torch.cat(rows) if len(rows) > 1 else rows[0]


def _first(T: int, S: int, sees: int, device: torch.device) -> Tensor | None:
    """The first position that each of the last S of T positions may attend to; None: all."""
    if sees >= T:
        return None
    positions = torch.arange(T - S, T, dtype=torch.int32, device=device)
    return (positions - sees + 1).clamp_(min=0)[None]
