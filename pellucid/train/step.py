"""One training step, top to bottom."""

from __future__ import annotations

import math
import time

import numpy as np
import torch
from torch.nn.utils import clip_grad_norm_, get_total_norm

from pellucid.errors import NotFinite
from pellucid.model import Decoder
from pellucid.recipe import Recipe
from pellucid.record import digests
from pellucid.record.entries import Microbatch
from pellucid.store import tensors
from pellucid.train.events import Batch, Stepped
from pellucid.train.optimizer import GradientTree
from pellucid.train.schedule import learning_rate
from pellucid.train.state import State


def training_step(state: State, batch: Batch, recipe: Recipe) -> Stepped:
    """Take one step: changes state in place. Raises NotFinite, and then the step is not to be recorded."""
    started = time.perf_counter()
    model, parameters = state.model, list(state.model.parameters())
    targets = batch.tokens_BS[:, 1:].size

    # Not at the end of the step before: freed there, their memory goes back to the system and is fetched
    # anew, page by page, which costs 3% of a step (docs/log.md, 2026-11-23).
    model.zero_grad(set_to_none=True)
    tree, losses, microbatches = GradientTree(), [], []
    for tokens_bS, documents_bS in batch.microbatches(recipe.train.microbatch):
        losses_bT = token_losses(model, tokens_bS, documents_bS, recipe)
        (losses_bT.sum() / targets).backward()
        losses.append(losses_bT.detach().cpu().numpy())
        microbatches.append(_microbatch(losses[-1], model, recipe))
        tree.add([parameter.grad for parameter in parameters if parameter.grad is not None])
        model.zero_grad(set_to_none=True)

    for parameter, gradient in zip(parameters, tree.total(), strict=True):
        parameter.grad = gradient
    grad_norm = float(clip_grad_norm_(parameters, recipe.train.clip, foreach=True))
    _require_finite(state.step + 1, "the gradient norm", grad_norm)

    lr = learning_rate(recipe.train, state.step + 1)
    for group in state.optimizer.param_groups:
        group["lr"] = lr
    state.optimizer.step()
    state.step += 1
    weight_norm = float(get_total_norm([parameter.detach() for parameter in parameters], foreach=True))
    _require_finite(state.step, "the norm of the weights", weight_norm)

    losses_BT = np.concatenate(losses)
    seconds = time.perf_counter() - started
    return Stepped(batch, losses_BT, microbatches, lr, grad_norm, weight_norm, seconds)


def token_losses(model: Decoder, tokens_BS: np.ndarray, documents_BS: np.ndarray, recipe: Recipe) -> torch.Tensor:
    """The loss of every target, shape (B, T), float32, at the recipe's precision."""
    device = model.cos_TC.device
    tokens = torch.from_numpy(tokens_BS.astype(np.int64)).to(device)
    within = recipe.model.attention == "within"
    documents = torch.from_numpy(documents_BS[:, :-1].copy()).to(device) if within else None
    with torch.autocast(device.type, torch.bfloat16, enabled=recipe.train.precision == "bf16"):
        return model.token_losses(tokens[:, :-1], tokens[:, 1:], documents)


def _microbatch(losses_bT: np.ndarray, model: Decoder, recipe: Recipe) -> Microbatch:
    gradient_root = b""
    if recipe.record.commitment == "microbatches":
        arrays = {name: p.grad.detach().cpu().numpy() for name, p in model.named_parameters() if p.grad is not None}
        gradient_root = digests.tensors_root(tensors.leaves(arrays))
    return Microbatch(losses_bT.size, math.fsum(losses_bT.ravel().tolist()), gradient_root)


def _require_finite(step: int, quantity: str, value: float) -> None:
    # A loss that is not finite makes the gradient norm so, and a weight the norm of the weights.
    if not math.isfinite(value):
        raise NotFinite(step=step, quantity=quantity, value=value)
