"""The model's own arithmetic: parameters, FLOPs and bytes of memory, counted
from its shape and nothing else.

The field's rules of thumb are 6·N·D FLOPs for a run of N parameters and D tokens
(arXiv:2001.08361), 2·N a token forward and twice that backward, 16 bytes a parameter for a state in
float32 with its gradient (arXiv:1910.02054), and formulas for what a layer keeps for backward
(arXiv:2205.05198). Here every product, tensor and saved activation of `pellucid/families` is
counted as it stands there; tests hold the counts against it."""

from __future__ import annotations

import fnmatch
import math
from typing import NamedTuple, NoReturn

from pellucid.errors import RecipeInvalid
from pellucid.families.base import FLOAT, Model
from pellucid.optimizers.base import Kept
from pellucid.recipe import FILE, Recipe
from pellucid.record import elements
from pellucid.schedule import Phase
from pellucid.store import metrics

_LOGITS = 16 << 20  # CHUNK_BYTES of kernels/src/rows.h: logits the fused loss holds at a time …
_BLOCK, _SHORT = 256, 64  # … the kernels' units of rows …
_TERMS, _ACROSS = (
    2048,
    (264 + 32) * 256,
)  # … and product.h's TERMS, and ACROSS_WORK, most of what a thread needs.


def learning(recipe: Recipe, vocabulary: int) -> dict[str, tuple[int, ...]]:
    """The weights that learn in some phase. Raises RecipeInvalid where what is frozen names no
    weight, or all."""
    tensors = recipe.model.tensors(vocabulary)
    for phase in recipe.phases:
        for pattern in phase.frozen:
            if not any(fnmatch.fnmatchcase(name, pattern) for name in tensors):
                _unfit(recipe, phase, f"no weight of the model has a name like {pattern!r}")
        if all(phase.freezes(name) for name in tensors):
            _unfit(recipe, phase, "no weight is left to learn")
    return {
        name: dims
        for name, dims in tensors.items()
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in recipe.train.frozen)
    }


def _unfit(recipe: Recipe, phase: Phase, detail: str) -> NoReturn:
    own = set(phase.frozen) != set(recipe.train.frozen)
    key = f"phase.{phase.name}.frozen" if own else "train.frozen"
    raise RecipeInvalid(path=FILE, key=key, detail=detail, setting="")


def state(recipe: Recipe, vocabulary: int) -> dict[str, dict[str, Kept]]:
    """Every tensor of a full state: group -> name -> its type and
    shape. A group has at least one."""
    groups = {
        "weights": {
            name: Kept("F32", dims) for name, dims in recipe.model.tensors(vocabulary).items()
        }
    }
    groups |= recipe.optimizer.groups(learning(recipe, vocabulary))
    return {group: tensors for group, tensors in groups.items() if tensors}


def state_bytes(recipe: Recipe, vocabulary: int) -> int:
    """Bytes of a full state's tensors."""
    return sum(
        size(tensor) for group in state(recipe, vocabulary).values() for tensor in group.values()
    )


def size(tensor: Kept) -> int:
    """Bytes of a tensor."""
    return elements.DTYPES[tensor.dtype].itemsize * math.prod(tensor.shape)


class Parameters(NamedTuple):
    layer: int  # Of one layer, norms included.
    # By which every token is multiplied: all but norms and the embedding that is looked up.
    multiplied: int
    total: int


def parameters(shape: Model, vocabulary: int) -> Parameters:
    layer = shape.layer().values()
    matrices = shape.layers * sum(math.prod(dims) for dims in layer if len(dims) > 1)
    per_layer, table = sum(map(math.prod, layer)), vocabulary * shape.width
    total = shape.layers * per_layer + shape.width + (1 if shape.tied else 2) * table
    return Parameters(per_layer, matrices + table, total)


class Flops(NamedTuple):
    """Floating-point operations; a multiplication and an addition are two."""

    linear: int  # Products with weights, forward.
    attention: int  # Scores and weighted values, forward.
    update: int = 0  # The optimizer's products.

    @property
    def forward(self) -> int:
        return self.linear + self.attention

    @property
    def backward(self) -> int:
        """Twice the linears (gradients of input and weight); of attention five products where
        forward has two: the scores once more, and four gradients (arXiv:2205.14135)."""
        return 2 * self.linear + 5 * self.attention // 2

    @property
    def step(self) -> int:
        return self.forward + self.backward + self.update


def flops(shape: Model, vocabulary: int, sequences: int, context: int = 0) -> Flops:
    """Of so many sequences of so many tokens (0: the model's context). What attention masks is not
    counted, and documents are taken to fill the context. Norms, activations and softmax are left
    out, as everybody leaves them out: they are under one in a hundred."""
    T = context or shape.context
    pairs = sequences * shape.pairs(T)
    linear = 2 * parameters(shape, vocabulary).multiplied * sequences * T
    return Flops(linear, pairs * 2 * 2 * shape.width)


def step_flops(recipe: Recipe, phase: Phase, vocabulary: int) -> Flops:
    """Of one step of a phase, with the products of its optimizer. Frozen weights are counted
    forward and backward as those that learn."""
    moved = learning(recipe, vocabulary).items()
    update = recipe.optimizer.flops({name: dims for name, dims in moved if not phase.freezes(name)})
    counted = flops(recipe.model, vocabulary, phase.batch, phase.context)
    return counted._replace(update=update)


def gradient_sets(microbatches: int) -> int:
    """Most sets of gradients that exist at once: the tree holds one for every 1 in the binary
    number of the microbatches done, and one is being made."""
    return microbatches.bit_length()


class Memory(NamedTuple):
    """Bytes of one process, where a training step needs most."""

    weights: int
    optimizer: int
    gradients: int  # Those of earlier microbatches, in the tree.
    activations: int  # One microbatch's, with what its gradients take then.
    buffers: int  # The kernels' working memory.
    gaps: int  # Freed pieces of memory between others, too small for what is wanted next.
    writing: int  # A copy of the state while an anchor of it is written.
    rows: int  # Of metrics, until they become a part.
    libraries: int

    @property
    def peak(self) -> int:
        return sum(self)


# Not counted but measured, on glibc; bench/plan.py prints what is predicted with them beside what
# is measured. Gradients that wait in the tree lie where activations were, so the next
# microbatch's do not fit there again.
LIBRARIES = {
    "portable": 264 << 20,
    "native": 335 << 20,
}  # Bytes: Python with torch, NumPy and pyarrow.
_GAPS = {
    "portable": (0.20, 0.48),
    "native": (0.30, 0.62),
}  # With one microbatch, with several: of what comes and goes.


def memory(recipe: Recipe, vocabulary: int, threads: int, libraries: int = 0) -> Memory:
    """What a step takes, of the phase whose steps take most; libraries are bytes
    before the model exists, 0: as measured elsewhere. On CUDA everything but the
    libraries and the copy lies on the GPU."""
    alone = (recipe.alone(phase) for phase in recipe.phases)
    return max(
        (_memory(single, vocabulary, threads, libraries) for single in alone),
        key=lambda needs: needs.peak,
    )


def _memory(recipe: Recipe, vocabulary: int, threads: int, libraries: int) -> Memory:
    arithmetic, size = recipe.train.arithmetic, recipe.train.microbatch
    count = parameters(recipe.model, vocabulary)
    microbatches = recipe.train.batch // size
    gradients = FLOAT * count.total * (gradient_sets(microbatches) - 1)
    # The update comes when activations are gone, and gradients are left.
    updating = FLOAT * count.total + recipe.optimizer.scratch(learning(recipe, vocabulary))
    activations, buffers = (
        max(_backward(recipe, vocabulary), updating),
        _buffers(recipe, vocabulary, threads),
    )
    full_state = state_bytes(recipe, vocabulary)
    gaps = _GAPS[arithmetic][microbatches > 1] * (gradients + activations + buffers)
    return Memory(
        weights=FLOAT * count.total,
        optimizer=full_state - FLOAT * count.total,
        gradients=gradients,
        activations=activations,
        buffers=buffers,
        gaps=int(gaps),
        writing=full_state,
        rows=metrics.ROW_BYTES * _rows(recipe),
        libraries=libraries or LIBRARIES[arithmetic],
    )


def _rows(recipe: Recipe) -> int:
    """Rows of metrics that memory holds at most. A row of a batch has its own, and is
    taken to have two segments."""
    step = (
        3 * recipe.train.batch
        + recipe.train.batch // recipe.train.microbatch
        + 1
        + len(recipe.data.sources)
    )
    return min(metrics.HELD + step, recipe.train.steps * step)


def _backward(recipe: Recipe, vocabulary: int) -> int:
    """The most that a microbatch holds of activations and of its own gradients.

    Backward frees a layer's activations and makes its gradients: the sum goes up or down
    with every layer, so its most is at the top (all activations) or at the bottom (one
    layer's, nearly all gradients)."""
    shape, native = recipe.model, recipe.train.arithmetic == "native"
    wide = 2 if recipe.train.precision == "bf16" else FLOAT
    rows, D, F = recipe.train.microbatch * shape.context, shape.width, shape.mlp_width
    layer, head = (
        shape.saved(recipe.train.microbatch, recipe.train.arithmetic, wide),
        FLOAT * vocabulary * D,
    )
    count = parameters(shape, vocabulary)
    # What the last norm keeps and gives; the tokens.
    ends = rows * (wide * (4 if native else 3) * D + FLOAT * 3)
    # Gradients on their way through an MLP, less what it has freed.
    passing = rows * wide * (D + 2 * F)
    first_layer = passing + FLOAT * D * F + head
    # native holds logits: their logarithms of softmax, and two gradients on the way.
    top = shape.layers * layer + max(
        ends + 3 * FLOAT * rows * vocabulary if native else ends + head, first_layer
    )
    # Where embeddings are tied, the gradients of both their uses exist before they are added.
    last_layer = max(layer + passing - FLOAT * count.layer, rows * wide * D + shape.tied * head)
    return max(top, FLOAT * count.total + last_layer)


def _buffers(recipe: Recipe, vocabulary: int, threads: int) -> int:
    """What kernels/src allocates once and keeps: packed operands, some rows of
    logits, every thread's room."""
    if recipe.train.arithmetic == "native":
        return 0
    shape, rows = recipe.model, recipe.train.microbatch * recipe.model.context
    T, D, F, C = shape.context, shape.width, shape.mlp_width, shape.head_width
    chunk = min(rows, max(1, _LOGITS // (_BLOCK * vocabulary * FLOAT)) * _BLOCK)
    packed = max(vocabulary * D, D * min(F, _TERMS), F * min(D, _TERMS)) + vocabulary * D
    attention = 6 * T * C + 2 * T + _SHORT * (5 * C + 2 * (T + 16))
    work = max(threads * max(attention, _ACROSS), (math.ceil(rows / _SHORT) + threads) * D)
    return FLOAT * (packed + chunk * vocabulary + work)
