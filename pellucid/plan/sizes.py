"""What training takes from 10 million to 70 billion parameters, by our own
counts for the shapes people train.

The presets with 20 tokens a parameter, about what a budget of FLOPs is best
spent on (arXiv:2203.15556); above them open models of the Llama family with the
tokens they were trained on."""

from __future__ import annotations

from dataclasses import dataclass

from pellucid import counts
from pellucid.families import Llama
from pellucid.families.base import Model
from pellucid.new import PRESETS, Preset
from pellucid.optimizers.base import Optimizer

TOKENS_A_PARAMETER = 20


@dataclass(frozen=True, slots=True)
class Size:
    name: str
    shape: Model
    vocabulary: int
    tokens: int

    @property
    def parameters(self) -> int:
        return counts.parameters(self.shape, self.vocabulary).total

    def state(self, optimizer: Optimizer) -> int:
        """Bytes of the weights and of what an optimizer keeps beside them."""
        groups = optimizer.groups(self.shape.tensors(self.vocabulary))
        beside = sum(counts.size(tensor) for of in groups.values() for tensor in of.values())
        return counts.FLOAT * self.parameters + beside

    @property
    def flops(self) -> float:
        """Of the whole training: those of a sequence, for every sequence. An optimizer's
        follow from the number of steps, which is not said."""
        return counts.flops(self.shape, self.vocabulary, 1).step * (
            self.tokens / self.shape.context
        )


def sizes() -> list[Size]:
    return [*(_of_preset(name) for name in ("10M", "30M", "100M", "300M", "1B")), *_OPEN]


def shape_of(preset: Preset) -> Llama:
    p = preset
    return _shape(p.layers, p.width, p.heads, p.kv_heads, p.mlp_width, p.context, tied=True)


def _of_preset(name: str) -> Size:
    p, shape = PRESETS[name], shape_of(PRESETS[name])
    return Size(
        name, shape, p.vocabulary, TOKENS_A_PARAMETER * counts.parameters(shape, p.vocabulary).total
    )


def _shape(
    layers: int,
    width: int,
    heads: int,
    kv_heads: int,
    mlp_width: int,
    context: int,
    tied: bool = False,
) -> Llama:
    return Llama(
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        mlp_width=mlp_width,
        context=context,
        tied=tied,
    )


_OPEN = (
    # arXiv:2401.02385
    Size("TinyLlama 1.1B", _shape(22, 2048, 32, 4, 5632, 2048), 32000, 3 * 10**12),
    # arXiv:2312.06550
    Size("Amber 7B", _shape(32, 4096, 32, 32, 11008, 2048), 32000, 1_259 * 10**9),
    # arXiv:2307.09288
    Size("Llama 2 13B", _shape(40, 5120, 40, 40, 13824, 4096), 32000, 2 * 10**12),
    Size("K2 65B", _shape(80, 8192, 64, 64, 22016, 2048), 32032, 1_400 * 10**9),  # arXiv:2501.07124
    # arXiv:2307.09288
    Size("Llama 2 70B", _shape(80, 8192, 64, 8, 28672, 4096), 32000, 2 * 10**12),
)
