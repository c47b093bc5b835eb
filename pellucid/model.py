"""A decoder of any family, with Hugging Face's tensor names, so that its weights are a checkpoint.

Which weights it has and what a layer does with them its family says (pellucid/families), over the
operations of `pellucid/operations`, which exist for each arithmetic. Shapes are named as there."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import ModuleType

import numpy as np
import torch
from torch import Tensor, nn

from pellucid.families.base import Model, Seen
from pellucid.objectives import Minimised, Said
from pellucid.schedule import Phase


class Decoder(nn.Module):
    """The whole model. Its parameters hold whatever memory held:
    train/state.py gives them values."""

    # Of every position's angles, as the operations want them; not part of a checkpoint.
    cos: Tensor
    sin: Tensor

    def __init__(self, shape: Model, vocabulary: int, ops: ModuleType) -> None:
        super().__init__()
        self.shape, self.ops = shape, ops
        for name, dims in shape.tensors(vocabulary).items():
            _plant(self, name, nn.Parameter(torch.empty(dims)))
        self._theta, self._frozen = shape.rope_theta, tuple[str, ...]()
        cos, sin = self._angles()
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def _angles(self) -> tuple[Tensor, Tensor]:
        return self.ops.rotary(self.shape.context, self.shape.head_width, self._theta)

    def enter(self, phase: Phase) -> None:
        """Be as a phase has it: the base of the rotary embedding, and which weights learn."""
        if phase.rope_theta != self._theta:
            self._theta = phase.rope_theta
            self.cos, self.sin = (table.to(self.device) for table in self._angles())
        if phase.frozen != self._frozen:
            self._frozen = phase.frozen
            for name, weight in self.named_parameters():
                weight.requires_grad_(not phase.freezes(name))

    @property
    def device(self) -> torch.device:
        return self.cos.device

    def losses(
        self,
        inputs_BT: Tensor,
        targets_BT: Tensor,
        minimised: Minimised | None = None,
        first_BT: Tensor | None = None,
    ) -> tuple[Said, Tensor]:
        """What the model says of every target, and a scalar from which backward of what is
        minimised begins.

        first_BT is the first position that each may attend to, int32; None: all before it.
        """
        x_BTD, head_VD = self.hidden(inputs_BT, first_BT)
        return self.ops.loss(x_BTD, head_VD, targets_BT, minimised)

    def forward(self, tokens_BT: Tensor, first_BT: Tensor | None = None) -> Tensor:
        """Logits of shape (B, T, V)."""
        x_BTD, head_VD = self.hidden(tokens_BT, first_BT)
        return self.ops.linears(x_BTD, head_VD)[0]

    def hidden(
        self,
        tokens_BT: Tensor,
        first_BT: Tensor | None = None,
        attention: Callable[..., Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """What the output projection reads, (B, T, D), and the projection itself.

        attention(layer, q, k, v, rotary, first_BT) stands in for the operations' own, if it is
        given (evaluate/forward.py).
        """
        w = dict(self.named_parameters())
        embedding_VD = w["model.embed_tokens.weight"]
        ends = (
            self.ops.share(embedding_VD) if self.shape.tied else (embedding_VD, w["lm_head.weight"])
        )
        far = [self.shape.sees(number) for number in range(self.shape.layers)]
        first = {sees: self._first(tokens_BT, first_BT, sees) for sees in set(far)}
        x_BTD = self.ops.embed(tokens_BT, ends[0])
        for number in range(self.shape.layers):
            layer = {name: w[f"model.layers.{number}.{name}"] for name in self.shape.layer()}
            own = None if attention is None else partial(attention, number)
            seen = Seen((self.cos, self.sin), first[far[number]], own)
            x_BTD = self.shape.forward(self.ops, layer, x_BTD, seen)
        return self.ops.norm(x_BTD, w["model.norm.weight"], self.shape.norm_epsilon)[1], ends[1]

    def _first(self, tokens_BT: Tensor, first_BT: Tensor | None, sees: int) -> Tensor | None:
        """The first position that each may attend to, where a layer sees so many."""
        B, T = tokens_BT.shape
        if sees >= T:
            return first_BT
        near_T = np.maximum(np.arange(T) - sees + 1, 0).astype(np.int32)
        first = near_T if first_BT is None else np.maximum(near_T, first_BT.numpy(force=True))
        return torch.from_numpy(np.broadcast_to(first, (B, T)).copy()).to(tokens_BT.device)


def _plant(root: nn.Module, name: str, weight: nn.Parameter) -> None:
    """Give a module a parameter under a dotted name, through modules that it is given too."""
    *parents, last = name.split(".")
    for parent in parents:
        if parent not in dict(root.named_children()):
            root.add_module(parent, nn.Module())
        root = root.get_submodule(parent)
    root.register_parameter(last, weight)
