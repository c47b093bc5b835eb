"""The two models that the benches of speed train."""

from __future__ import annotations

from typing import NamedTuple

from pellucid.new import PRESETS

LR, WEIGHT_DECAY, EPSILON, THETA = 3e-4, 0.1, 1e-5, 10000.0


class Shape(NamedTuple):
    """A model and the batch of a step; a step is one microbatch."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    mlp_width: int
    vocabulary: int
    context: int
    batch: int
    tied: bool

    @property
    def tokens(self) -> int:
        """Targets of a step."""
        return self.batch * self.context

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    def weights(self) -> dict[str, tuple[int, int, int]]:
        """Every shape of a weight that is multiplied by: its outputs, its inputs,
        and how many the model has."""
        D, F, kv = self.width, self.mlp_width, self.kv_heads * self.head_width
        square = {"q, k, v, o": (D, D, 4 * self.layers)}
        if kv != D:
            square = {"q, o": (D, D, 2 * self.layers), "k, v": (kv, D, 2 * self.layers)}
        return {
            **square,
            "gate, up": (F, D, 2 * self.layers),
            "down": (D, F, self.layers),
            "head": (self.vocabulary, D, 1),
        }

    def multiplied(self) -> int:
        """Parameters that every token is multiplied by: all but norms and the
        embedding that is looked up."""
        return sum(outputs * inputs * number for outputs, inputs, number in self.weights().values())

    def parameters(self) -> int:
        looked_up = 0 if self.tied else self.vocabulary * self.width
        return self.multiplied() + looked_up + (2 * self.layers + 1) * self.width

    def attention_flops(self) -> float:
        """Of attention forward in all layers: two products of 2·C for every head and
        every pair of a query and a key that it sees, T (T + 1) / 2 pairs a sequence.
        What is masked is not counted."""
        pairs = self.batch * self.context * (self.context + 1) / 2
        return self.layers * self.heads * pairs * 2 * 2 * self.head_width

    def flops(self) -> float:
        """Of a training step: 6 for every multiplied parameter and token (2 forward, 2 for the
        gradient of the input, 2 for the gradient of the weight); attention forward, and 2.5 times
        that backward, which is five products: the scores once more, as all peers make them, and the
        four gradients. Nothing else is counted."""
        return 6.0 * self.multiplied() * self.tokens + 3.5 * self.attention_flops()


def of_preset(name: str, batch: int) -> Shape:
    p = PRESETS[name]
    return Shape(
        p.layers,
        p.width,
        p.heads,
        p.kv_heads,
        p.mlp_width,
        p.vocabulary,
        p.context,
        batch,
        tied=True,
    )


MODELS = {
    # 6.8 million parameters.
    "bits": Shape(6, 256, 4, 4, 672, 4096, 256, 16, tied=False),
    # The preset 30M with batches of 8 sequences instead of 32, so that a step takes seconds.
    "30M": of_preset("30M", batch=8),
}
