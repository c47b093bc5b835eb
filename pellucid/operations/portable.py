"""The operations on our kernels. Torch holds the tensors and remembers what to do
backward; it computes nothing.

No tensor has two uses whose gradients the engine would have to add: where one is used twice, the
operation itself returns it again (norm) or says in which order the gradients are added (share)."""

# Torch passes backward its gradients one by one; its stub knows them only as one tuple.
# pyright: reportIncompatibleMethodOverride=false

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pellucid import machine
from pellucid.errors import TensorUnfit
from pellucid.kernels import calls, kept, library
from pellucid.objectives import Minimised, Said
from pellucid.objectives.base import Functions

FUNCTIONS = Functions(calls.ln, calls.exp)


def configure(device: str, threads: int) -> None:
    """Raises KernelsMissing, MachineLacks, KernelsWrong."""
    assert device == "cpu", "the recipe refuses other devices"
    library.set_threads(threads)
    if machine.settled():
        library.keep_memory()


def stack(device: str, threads: int) -> None:
    """What bits depend on besides recipe and data: nothing."""


class _Operation(torch.autograd.Function):
    """One operation: forward and backward are calls of kernels. Gradients
    that nobody asks for stay None."""


class _Share(_Operation):
    @staticmethod
    def forward(ctx: Any, w: Tensor) -> tuple[Tensor, Tensor]:
        return w.view_as(w), w.view_as(w)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_first: Tensor, d_second: Tensor) -> Tensor:
        return calls.add_into(d_second, d_first)


def share(w: Tensor) -> tuple[Tensor, Tensor]:
    """One tensor for two uses; its gradient is that of the second use plus that of the first."""
    return _Share.apply(w)


class _Embed(_Operation):
    @staticmethod
    def forward(ctx: Any, tokens_BT: Tensor, e_VD: Tensor) -> Tensor:
        ctx.tokens_M, ctx.vocabulary = tokens_BT.flatten(), len(e_VD)
        return calls.embed(ctx.tokens_M, e_VD).view(*tokens_BT.shape, -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dx_BTD: Tensor) -> tuple[None, Tensor]:
        return None, calls.embed_backward(ctx.tokens_M, dx_BTD.flatten(0, 1), ctx.vocabulary)


def embed(tokens_BT: Tensor, e_VD: Tensor) -> Tensor:
    return _Embed.apply(tokens_BT.contiguous(), e_VD)


class _Norm(_Operation):
    @staticmethod
    def forward(ctx: Any, x_BTD: Tensor, w_D: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        y_MD, r_M = calls.norm(x_BTD.flatten(0, 1), w_D, epsilon)
        ctx.save_for_backward(x_BTD, w_D, r_M)
        return x_BTD.view_as(x_BTD), y_MD.view_as(x_BTD)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_past: Tensor | None, dy_BTD: Tensor) -> tuple[Tensor, Tensor, None]:
        x_BTD, w_D, r_M = ctx.saved_tensors
        past_MD = None if d_past is None else d_past.flatten(0, 1)
        dx_MD, dw_D = calls.norm_backward(
            x_BTD.flatten(0, 1), w_D, r_M, dy_BTD.flatten(0, 1), past_MD
        )
        return dx_MD.view_as(x_BTD), dw_D, None


def norm(x_BTD: Tensor, w_D: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """x itself, for what comes past the norm, and its RMSNorm."""
    return _Norm.apply(x_BTD, w_D, epsilon)


class _Linears(_Operation):
    @staticmethod
    def forward(ctx: Any, x_BTD: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(x_BTD, *weights)
        x_MD = x_BTD.flatten(0, 1)
        return tuple(calls.product(x_MD, w.t()).view(*x_BTD.shape[:-1], -1) for w in weights)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x_BTD, *weights = ctx.saved_tensors
        return tuple(_linears_backward(x_BTD, weights, gradients, ctx.needs_input_grad))


def _linears_backward(
    x_BTD: Tensor, weights: Sequence[Tensor], gradients: Sequence[Tensor], wanted: Sequence[bool]
) -> list[Tensor | None]:
    """The gradient of x, weight by weight in their order, and those of the
    weights; None for what is not wanted: that of a frozen weight, and of what lies
    behind no weight that learns."""
    x_MD, dx_MD = x_BTD.flatten(0, 1), None
    dws: list[Tensor | None] = []
    for w, dy_BTN, learns in zip(weights, gradients, wanted[1:], strict=True):
        dy_MN = dy_BTN.flatten(0, 1)
        dx_MD = calls.product(dy_MN, w, dx_MD) if wanted[0] else None
        dws.append(calls.product(dy_MN.t(), x_MD) if learns else None)
    return [None if dx_MD is None else dx_MD.view_as(x_BTD), *dws]


def linears(x_BTD: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
    """x Wᵀ for each weight."""
    return _Linears.apply(x_BTD, *weights)


class _BiasedLinears(_Operation):
    @staticmethod
    def forward(ctx: Any, x_BTD: Tensor, count: int, *parameters: Tensor) -> tuple[Tensor, ...]:
        weights, biases = parameters[:count], parameters[count:]
        ctx.save_for_backward(x_BTD, *weights)
        x_MD = x_BTD.flatten(0, 1)
        results = []
        for w_ND, b_N in zip(weights, biases, strict=True):
            start_MN = torch.empty((len(x_MD), len(b_N)), dtype=torch.float32, device="cpu").copy_(
                b_N
            )
            results.append(calls.product(x_MD, w_ND.t(), start_MN).view(*x_BTD.shape[:-1], -1))
        return tuple(results)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x_BTD, *weights = ctx.saved_tensors
        x_wanted, _, *wanted = ctx.needs_input_grad
        count = len(weights)
        of_x, *of_weights = _linears_backward(
            x_BTD, weights, gradients, (x_wanted, *wanted[:count])
        )
        of_biases = [
            _bias_backward(dy_BTN) if learns else None
            for dy_BTN, learns in zip(gradients, wanted[count:], strict=True)
        ]
        return of_x, None, *of_weights, *of_biases


def _bias_backward(dy_BTN: Tensor) -> Tensor:
    dy_MN = dy_BTN.flatten(0, 1)
    ones_1M = torch.ones((1, len(dy_MN)), dtype=torch.float32, device="cpu")
    return calls.product(ones_1M, dy_MN).view(-1)


def biased_linears(x_BTD: Tensor, *parts: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """x Wᵀ + b for each weight with its bias."""
    weights, biases = zip(*parts, strict=True)
    return _BiasedLinears.apply(x_BTD, len(parts), *weights, *biases)


class _LinearAdd(_Operation):
    @staticmethod
    def forward(ctx: Any, x_BTN: Tensor, w_DN: Tensor, past_BTD: Tensor) -> Tensor:
        ctx.save_for_backward(x_BTN, w_DN)
        return calls.product(x_BTN.flatten(0, 1), w_DN.t(), past_BTD.flatten(0, 1)).view_as(
            past_BTD
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy_BTD: Tensor) -> tuple[Tensor | None, ...]:
        x_BTN, w_DN = ctx.saved_tensors
        return *_linears_backward(x_BTN, [w_DN], [dy_BTD], ctx.needs_input_grad[:2]), dy_BTD


def linear_add(x_BTN: Tensor, w_DN: Tensor, past_BTD: Tensor) -> Tensor:
    """past + x Wᵀ: a branch joins the residual stream."""
    return _LinearAdd.apply(x_BTN, w_DN, past_BTD)


class _NormAdd(_Operation):
    @staticmethod
    def forward(ctx: Any, x_BTD: Tensor, w_D: Tensor, epsilon: float, past_BTD: Tensor) -> Tensor:
        y_MD, r_M = calls.norm(x_BTD.flatten(0, 1), w_D, epsilon)
        ctx.save_for_backward(x_BTD, w_D, r_M)
        return calls.add_into(y_MD, past_BTD.flatten(0, 1)).view_as(x_BTD)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy_BTD: Tensor) -> tuple[Tensor | None, ...]:
        x_BTD, w_D, r_M = ctx.saved_tensors
        dx_MD, dw_D = calls.norm_backward(x_BTD.flatten(0, 1), w_D, r_M, dy_BTD.flatten(0, 1), None)
        return dx_MD.view_as(x_BTD), dw_D, None, dy_BTD


def norm_add(x_BTD: Tensor, w_D: Tensor, epsilon: float, past_BTD: Tensor) -> Tensor:
    """past + the RMSNorm of x: a branch joins the residual stream behind its norm."""
    return _NormAdd.apply(x_BTD, w_D, epsilon, past_BTD)


def rotary(positions: int, width: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the angles, (positions, width / 2) each."""
    return calls.rotary_table(positions, width, theta)


class _Attention(_Operation):
    @staticmethod
    def forward(
        ctx: Any, q_BTHC: Tensor, k_BTKC: Tensor, v_BTKC: Tensor, places: calls.Places
    ) -> Tensor:
        o_BTHC, m_BHT, g_BHT = calls.attention(q_BTHC, k_BTKC, v_BTKC, places)
        ctx.places = places
        ctx.save_for_backward(q_BTHC, k_BTKC, v_BTKC, o_BTHC, m_BHT, g_BHT)
        return o_BTHC

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, do_BTHC: Tensor) -> tuple[Tensor | None, ...]:
        q_BTHC, k_BTKC, v_BTKC, *forward = ctx.saved_tensors
        return *calls.attention_backward(
            q_BTHC, k_BTKC, v_BTKC, ctx.places, tuple(forward), do_BTHC
        ), None


def attention(
    q_BTHC: Tensor,
    k_BTKC: Tensor,
    v_BTKC: Tensor,
    rotary: tuple[Tensor, Tensor],
    first_BT: Tensor | None,
) -> Tensor:
    """Causal attention of rotated queries and keys; a query sees the keys from first on, or all
    before it."""
    T = k_BTKC.shape[1]
    if first_BT is None:
        first_BT = torch.zeros(q_BTHC.shape[:2], dtype=torch.int32)
    cos_TH, sin_TH = rotary
    return _Attention.apply(q_BTHC, k_BTKC, v_BTKC, calls.Places(cos_TH[:T], sin_TH[:T], first_BT))


Kept, attention_kept = kept.Kept, kept.attention


class _SwiGLU(_Operation):
    @staticmethod
    def forward(ctx: Any, gate_BTF: Tensor, up_BTF: Tensor) -> Tensor:
        ctx.save_for_backward(gate_BTF, up_BTF)
        return calls.swiglu(gate_BTF, up_BTF)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dh_BTF: Tensor) -> tuple[Tensor, Tensor]:
        gate_BTF, up_BTF = ctx.saved_tensors
        return calls.swiglu_backward(gate_BTF, up_BTF, dh_BTF)


def swiglu(gate_BTF: Tensor, up_BTF: Tensor) -> Tensor:
    return _SwiGLU.apply(gate_BTF, up_BTF)


class _Loss(_Operation):
    @staticmethod
    def forward(
        ctx: Any,
        x_BTD: Tensor,
        w_VD: Tensor,
        targets_BT: Tensor,
        minimised: Minimised | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        x_MD, targets_M = x_BTD.flatten(0, 1), targets_BT.flatten()
        coefficients = None
        if minimised is not None and any(ctx.needs_input_grad):
            values = (
                _said_of(calls.loss(x_MD, w_VD, targets_M), targets_BT) if minimised.asks else None
            )
            softmax_BT, onehot_BT = map(torch.from_numpy, minimised.coefficients(FUNCTIONS, values))
            coefficients = softmax_BT.flatten(), onehot_BT.flatten()
        results = calls.loss(x_MD, w_VD, targets_M, coefficients, ctx.needs_input_grad[:2])
        dx_MD, ctx.dw_VD = results[2:]
        ctx.dx_BTD = None if dx_MD is None else dx_MD.view_as(x_BTD)
        losses_BT, log_sums_BT = (tensor.view_as(targets_BT) for tensor in results[:2])
        ctx.mark_non_differentiable(losses_BT, log_sums_BT)
        return losses_BT, log_sums_BT, torch.zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _: Tensor, __: Tensor, d_objective: Tensor) -> tuple[Tensor | None, ...]:
        if d_objective.item() != 1.0:
            # The gradients were made with the logits, which are gone; scaling them
            # here would be one rounding more.
            wanted = "1: the objective is where backward begins"
            raise TensorUnfit(
                operation="loss", name="its gradient", found=d_objective.item(), wanted=wanted
            )
        return ctx.dx_BTD, ctx.dw_VD, None, None


def _said_of(results: Sequence[Tensor | None], like_BT: Tensor) -> Said:
    losses_M, log_sums_M = results[:2]
    assert losses_M is not None and log_sums_M is not None
    return Said(losses_M.view_as(like_BT).numpy(), log_sums_M.view_as(like_BT).numpy())


def loss(
    x_BTD: Tensor, w_VD: Tensor, targets_BT: Tensor, minimised: Minimised | None = None
) -> tuple[Said, Tensor]:
    """What the model says of every target; and a scalar from which backward begins. The gradients
    are made with the logits, so its value says nothing: minimised.value does."""
    losses_BT, log_sums_BT, objective = _Loss.apply(x_BTD, w_VD, targets_BT.contiguous(), minimised)
    return Said(losses_BT.numpy(), log_sums_BT.numpy()), objective


def initial_values(key: int, shape: tuple[int, ...], std: float, divisor_squared: float) -> Tensor:
    """Uniform values with the standard deviation std / sqrt(divisor_squared); element
    i is draw i of a Philox key."""
    return calls.initial_values(key, shape, std, divisor_squared)


add_into = calls.add_into
axpby_into = calls.axpby_into
product = calls.product
gram = calls.gram
norm_of = calls.norm_of
AdamW = calls.AdamW
adamw = calls.adamw
