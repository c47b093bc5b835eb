"""Texts that grow: the bits of attention over the whole text."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.errors import TensorUnfit
from pellucid.kernels import calls, kept
from tests.kernels import reference
from tests.kernels.test_calls import HEADS, SEEDS, WIDTHS, Everywhere, seeds
from tests.kernels.values import tensor, values

LAYERS = 2


class Text:
    """One text of every layer, what attention gives of it by the reference, and its pieces."""

    def __init__(
        self, seed: int, T: int, heads: tuple[int, int], C: int, sees: int, ends: list[int]
    ) -> None:
        (H, K), new = heads, seeds(seed)
        lo_1T = np.maximum(np.arange(T) - sees + 1, 0)[None].astype(np.int32)
        places = [*reference.rotary_table(T, C, 10_000.0), lo_1T]
        self.layers, self.wanted = [], []
        for _ in range(LAYERS):
            shapes = (T, H, C), (T, K, C), (T, K, C)
            qkv = [values(next(new), *shape, finite=True) for shape in shapes]
            self.layers.append([tensor(one) for one in qkv])
            o_1THC = reference.attention(*(one[None] for one in qkv), *places)[0]
            self.wanted.append(o_1THC[0])
        self.pieces = [range(a, b) for a, b in zip([0, *ends], [*ends, T], strict=True)]
        self.kept = kept.Kept(LAYERS, K, C)
        self.got: list[list[torch.Tensor]] = [[] for _ in range(LAYERS)]


def grow(texts: list[Text], angles: tuple[torch.Tensor, torch.Tensor], sees: int) -> None:
    """Piece by piece, those that have one more beside each other."""
    for number in range(max(len(text.pieces) for text in texts)):
        going = [text for text in texts if number < len(text.pieces)]
        spans = [text.pieces[number] for text in going]
        for layer in range(LAYERS):
            qkv = [
                torch.cat(
                    [
                        text.layers[layer][part][span.start : span.stop]
                        for text, span in zip(going, spans, strict=True)
                    ]
                )
                for part in range(3)
            ]
            counts, memories = [len(span) for span in spans], [text.kept for text in going]
            q, k, v = qkv
            o = kept.attention(layer, memories, counts, (q, k, v), angles, sees)
            for text, rows in zip(going, o.split(counts), strict=True):
                text.got[layer].append(rows)
        for text, span in zip(going, spans, strict=True):
            text.kept.length += len(span)


class Shapes(NamedTuple):
    """Texts beside each other: of each its length, and where its pieces but the last end."""

    heads: tuple[int, int]
    C: int
    sees: int
    lengths: list[tuple[int, list[int]]]


def check(everywhere: Everywhere, seed: int, shapes: Shapes) -> None:
    heads, C, sees, lengths = shapes
    angles = calls.rotary_table(max(T for T, _ in lengths), C, 10_000.0)

    def texts() -> list[Text]:
        return [
            Text(seed + number, T, heads, C, sees, ends) for number, (T, ends) in enumerate(lengths)
        ]

    def call() -> tuple[torch.Tensor, ...]:
        growing = texts()
        grow(growing, angles, sees)
        return tuple(torch.cat(rows) for text in growing for rows in text.got)

    everywhere(call, tuple(wanted for text in texts() for wanted in text.wanted), threads=(1, 3))


@st.composite
def cut_texts(draw: st.DrawFn) -> list[tuple[int, list[int]]]:
    texts = []
    for _ in range(draw(st.integers(1, 3))):
        T = draw(st.integers(1, 80))
        inner = st.sets(st.integers(1, T - 1), max_size=5) if T > 1 else st.just(set[int]())
        texts.append((T, sorted(draw(inner))))
    return texts


@settings(deadline=None, max_examples=25)
@given(SEEDS, st.builds(Shapes, HEADS, WIDTHS, st.integers(1, 90), cut_texts()))
def test_a_text_that_grows_has_the_bits_of_the_whole(
    everywhere: Everywhere, seed: int, shapes: Shapes
) -> None:
    check(everywhere, seed, shapes)


@pytest.mark.parametrize("past", [1, 15, 16, 17, 31, 33, 63, 64, 65, 269, 300])
def test_over_several_blocks(everywhere: Everywhere, past: int) -> None:
    ends = [past, *range(past + 1, min(past + 4, 301))]
    lengths = [(301, ends), (90, [90 * past // 301 or 1])]
    check(everywhere, past, Shapes((4, 2), 10, 280, lengths))


def test_copies_share_a_beginning_and_go_their_own_ways(everywhere: Everywhere) -> None:
    H, K, C, T, shared = 2, 1, 34, 40, 21
    new = seeds(7)
    begin = [values(next(new), shared, n, C, finite=True) for n in (H, K, K)]
    ends = [[values(next(new), T - shared, n, C, finite=True) for n in (H, K, K)] for _ in "abc"]
    table, lo = reference.rotary_table(T, C, 10_000.0), np.zeros((1, T), np.int32)
    wanted = []
    for end in ends:
        qkv = [np.concatenate(pair)[None] for pair in zip(begin, end, strict=True)]
        wanted.append(reference.attention(*qkv, *table, lo)[0][0, shared:])
    angles = calls.rotary_table(T, C, 10_000.0)

    def call() -> tuple[torch.Tensor, ...]:
        first = kept.Kept(1, K, C)
        q, k, v = map(tensor, begin)
        kept.attention(0, [first], [shared], (q, k, v), angles, T)
        first.length = shared
        results = []
        # The first goes on itself, before the others and beside one of them.
        texts = [first, first.copy(), first.copy(shared)]
        for text, end in zip(texts, ends, strict=True):
            q, k, v = map(tensor, end)
            results.append(kept.attention(0, [text], [T - shared], (q, k, v), angles, T))
        return tuple(results)

    everywhere(call, tuple(wanted))


def test_what_does_not_fit_is_refused() -> None:
    memory, angles = kept.Kept(1, 2, 4), calls.rotary_table(3, 4, 10_000.0)

    def ask(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, count: int = 3) -> None:
        kept.attention(0, [memory], [count], (q, k, v), angles, 9)

    q, k = torch.ones(3, 4, 4), torch.ones(3, 2, 4)
    ask(q, k, k)
    with pytest.raises(TensorUnfit, match=r"^attention_kept: k is"):
        ask(q, torch.ones(2, 2, 4), k)
    with pytest.raises(TensorUnfit, match=r"^attention_kept: v is"):
        ask(q, k, k.double())
    with pytest.raises(TensorUnfit, match=r"^attention_kept: q is 3 heads"):
        ask(torch.ones(3, 3, 4), k, k)
    with pytest.raises(TensorUnfit, match=r"^attention_kept: cos is"):
        memory.length = 3
        ask(q, k, k)
