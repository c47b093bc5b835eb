"""The operations on PyTorch's own arithmetic: any device, bf16 under autocast;
equal bits on an equal stack."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim.adamw import adamw as torch_adamw

from pellucid import philox
from pellucid.errors import DeviceMissing
from pellucid.kernels.calls import AdamW
from pellucid.objectives import Minimised, Said
from pellucid.objectives.base import Functions

FUNCTIONS = Functions(math.log, math.exp)


def configure(device: str, threads: int) -> None:
    """Put torch into the mode in which an equal stack gives equal bits. Raises DeviceMissing."""
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceMissing(device="cuda")
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    # Filling fresh memory costs time and changes nothing: no operation here reads it unwritten.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cuda.matmul.allow_tf32 = False


def stack(device: str, threads: int) -> dict[str, str]:
    """What bits depend on besides the recipe and the data."""
    if device == "cuda":
        return {
            "torch": torch.__version__,
            "device": torch.cuda.get_device_name(),
            "cuda": str(torch.version.cuda),
        }
    capability = torch.backends.cpu.get_cpu_capability()
    return {
        "torch": torch.__version__,
        "device": "cpu",
        "cpu_capability": capability,
        "threads": str(threads),
    }


def share(w: Tensor) -> tuple[Tensor, Tensor]:
    return w, w


def embed(tokens_BT: Tensor, e_VD: Tensor) -> Tensor:
    return F.embedding(tokens_BT, e_VD)


def norm(x_BTD: Tensor, w_D: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    return x_BTD, F.rms_norm(x_BTD, w_D.shape, w_D, epsilon)


def linears(x_BTD: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
    return tuple(F.linear(x_BTD, w) for w in weights)


def biased_linears(x_BTD: Tensor, *parts: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    return tuple(F.linear(x_BTD, w, b) for w, b in parts)


def linear_add(x_BTN: Tensor, w_DN: Tensor, past_BTD: Tensor) -> Tensor:
    return past_BTD + F.linear(x_BTN, w_DN)


def norm_add(x_BTD: Tensor, w_D: Tensor, epsilon: float, past_BTD: Tensor) -> Tensor:
    return past_BTD + F.rms_norm(x_BTD, w_D.shape, w_D, epsilon)


def rotary(positions: int, width: int, theta: float) -> tuple[Tensor, Tensor]:
    frequencies = 1.0 / theta ** (torch.arange(0, width, 2, dtype=torch.float32) / width)
    angles_TC = torch.outer(torch.arange(positions, dtype=torch.float32), frequencies).repeat(1, 2)
    return angles_TC.cos(), angles_TC.sin()


def _rotate(x_BHTC: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Turn each pair (i, i + C/2) of a head by its position's angle, as Hugging Face pairs them."""
    cos_TC, sin_TC = rotary
    low, high = x_BHTC.chunk(2, dim=-1)
    return x_BHTC * cos_TC + torch.cat((-high, low), dim=-1) * sin_TC


def attention(
    q_BTHC: Tensor,
    k_BTKC: Tensor,
    v_BTKC: Tensor,
    rotary: tuple[Tensor, Tensor],
    first_BT: Tensor | None,
) -> Tensor:
    S, T = q_BTHC.shape[1], k_BTKC.shape[1]
    q_BHTC = _rotate(q_BTHC.transpose(1, 2), (rotary[0][T - S : T], rotary[1][T - S : T]))
    k_BKTC = _rotate(k_BTKC.transpose(1, 2), (rotary[0][:T], rotary[1][:T]))
    mask_B1ST = None
    if first_BT is not None or S < T:
        position_T = torch.arange(T, device=q_BTHC.device)
        seen_BST = (position_T[None, :] <= position_T[T - S :, None])[None]
        if first_BT is not None:
            seen_BST = (position_T[None, None, :] >= first_BT[:, :, None]) & seen_BST
        mask_B1ST = seen_BST[:, None]
    out_BHTC = F.scaled_dot_product_attention(
        q_BHTC,
        k_BKTC,
        v_BTKC.transpose(1, 2),
        attn_mask=mask_B1ST,
        is_causal=mask_B1ST is None,
        enable_gqa=q_BTHC.shape[2] != k_BTKC.shape[2],
    )
    return out_BHTC.transpose(1, 2)


class Kept:
    """The keys and values of a text's first positions, of every layer (a KV cache)."""

    def __init__(self, layers: int, kv_heads: int, width: int) -> None:
        self.length = 0  # Positions that are kept.
        self._shape, self._layers = (layers, kv_heads, width), list[tuple[Tensor, Tensor]]()

    def copy(self, length: int | None = None) -> Kept:
        """Another text with the same beginning, or with the first positions of it."""
        other = Kept(*self._shape)
        other._layers = [*self._layers]
        other.length = self.length if length is None else length
        return other

    def take(self, layer: int, *new_1SKC: Tensor) -> tuple[Tensor, Tensor]:
        """Go on by some positions: the keys and values of all positions, (1, T, K, C)."""
        if layer == len(self._layers):
            self._layers.append((new_1SKC[0], new_1SKC[1]))
        else:
            old = (x_1TKC[:, : self.length] for x_1TKC in self._layers[layer])
            k, v = (torch.cat(pair, 1) for pair in zip(old, new_1SKC, strict=True))
            self._layers[layer] = k, v
        return self._layers[layer]


def attention_kept(
    layer: int,
    texts: Sequence[Kept],
    counts: Sequence[int],
    qkv: tuple[Tensor, Tensor, Tensor],
    angles: tuple[Tensor, Tensor],
    sees: int,
) -> Tensor:
    """As the portable one (kernels/kept.py), by one call for all texts of equal lengths."""
    alike = dict[tuple[int, int], list[tuple[int, Tensor, Tensor, Tensor]]]()
    rows = zip(*(x_NHC[None].split([*counts], 1) for x_NHC in qkv), strict=True)
    for place, (text, (q_1SHC, k_1SKC, v_1SKC)) in enumerate(zip(texts, rows, strict=True)):
        k_1TKC, v_1TKC = text.take(layer, k_1SKC, v_1SKC)
        sizes = k_1TKC.shape[1], q_1SHC.shape[1]
        alike.setdefault(sizes, []).append((place, q_1SHC, k_1TKC, v_1TKC))
    results = [*qkv[0].split([*counts])]
    for (T, S), group in alike.items():
        places, *parts = zip(*group, strict=True)
        first = (torch.arange(T - S, T, device=qkv[0].device) - sees + 1).clamp_(min=0)
        first_GS = None if sees >= T else first.repeat(len(group), 1)
        q_GSHC, k_GTKC, v_GTKC = (torch.cat(part) for part in parts)
        o_GSHC = attention(q_GSHC, k_GTKC, v_GTKC, angles, first_GS)
        for place, o_SHC in zip(places, o_GSHC, strict=True):
            results[place] = o_SHC
    return torch.cat(results)


def swiglu(gate_BTF: Tensor, up_BTF: Tensor) -> Tensor:
    return F.silu(gate_BTF) * up_BTF


def loss(
    x_BTD: Tensor, w_VD: Tensor, targets_BT: Tensor, minimised: Minimised | None = None
) -> tuple[Said, Tensor]:
    logits_MV = F.linear(x_BTD, w_VD).flatten(0, 1).float()
    losses_M = F.cross_entropy(logits_MV, targets_BT.flatten(), reduction="none")
    losses_BT = losses_M.view_as(targets_BT)
    asks = minimised is not None and minimised.asks
    log_sums_BT = logits_MV.logsumexp(-1).view_as(targets_BT) if asks else None
    known = None if log_sums_BT is None else log_sums_BT.numpy(force=True)
    said = Said(losses_BT.numpy(force=True), known)
    if minimised is None:
        return said, losses_BT.new_zeros(())
    coefficients = minimised.coefficients(FUNCTIONS, said if asks else None)
    softmax_BT, onehot_BT = (
        torch.from_numpy(factors).to(losses_BT.device) for factors in coefficients
    )
    objective = (losses_BT * onehot_BT).sum()
    if log_sums_BT is not None:  # Its derivative is the softmax; a loss's, softmax - onehot.
        objective = objective + (log_sums_BT * (softmax_BT - onehot_BT)).sum()
    return said, objective


def initial_values(key: int, shape: tuple[int, ...], std: float, divisor_squared: float) -> Tensor:
    if divisor_squared:
        std = std / math.sqrt(divisor_squared)
    values = philox.uniform_signed(key, 0, math.prod(shape)) * (std * math.sqrt(3.0))
    return torch.from_numpy(values).float().view(shape)


def add_into(a: Tensor, b: Tensor) -> Tensor:
    return a.add_(b)


def axpby_into(x: Tensor, a: float, b: float = 0.0, y: Tensor | None = None) -> Tensor:
    return x.mul_(a) if y is None else x.mul_(a).add_(y, alpha=b)


def product(a_MK: Tensor, b_KN: Tensor, start_MN: Tensor | None = None) -> Tensor:
    return a_MK @ b_KN if start_MN is None else torch.addmm(start_MN, a_MK, b_KN)


def gram(a_MK: Tensor) -> Tensor:
    return a_MK @ a_MK.t()


def norm_of(tensors: list[Tensor]) -> float:
    return float(get_total_norm(tensors, foreach=True))


def adamw(how: AdamW, tensors: list[tuple[Tensor, Tensor, Tensor, Tensor]]) -> float:
    for decays in (True, False):
        chosen = [group for group in tensors if (group[0].dim() > 1) == decays]
        if not chosen:
            continue
        weights, gradients, first, second = (list(column) for column in zip(*chosen, strict=True))
        if how.clip != 1.0:
            for gradient in gradients:
                gradient.mul_(how.clip)
        torch_adamw(
            weights,
            gradients,
            first,
            second,
            [],
            # It counts on before it uses the number of the step.
            [torch.tensor(float(how.step - 1), device=w.device) for w in weights],
            fused=True,
            amsgrad=False,
            beta1=how.beta1,
            beta2=how.beta2,
            lr=how.lr,
            weight_decay=how.weight_decay if decays else 0.0,
            eps=how.epsilon,
            maximize=False,
        )
    return norm_of([group[0] for group in tensors])
