"""What a step does, operation by operation: every call of a kernel with the digests
of what goes in and comes out.

A trace works on a copy of the operations, made for it alone: nothing that others compute with is
touched. Two traces of one step tell the operation at which two computations part. Intermediate
values are not kept, only their digests."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from pellucid.kernels import calls, library
from pellucid.model import Decoder
from pellucid.record import digests, elements

# (name of the operation, the operation, its arguments) -> its result.
Around = Callable[[str, Callable[..., Any], tuple[Any, ...]], Any]
_STEP = (
    "add_into",
    "norm_of",
    "adamw",
    "axpby_into",
    "product",
    "gram",
)  # What the training step and optimizers call.
MODEL = (
    "embed",
    "norm",
    "linears",
    "biased_linears",
    "linear_add",
    "norm_add",
    "attention",
    "swiglu",
    "loss",
)
_KERNELS = (*_STEP, "embed", "embed_backward", "norm", "norm_backward", "swiglu", "swiglu_backward")
_KERNELS += ("attention", "attention_backward", "loss")
SUM = "sum"  # add_into as the training step calls it: gradients of two microbatches.
_UPDATING = "the optimizer"  # The phase behind the gradient norm.
SMALLEST_NORMAL = 2.0**-126


def plain(name: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    return function(*arguments)


def copied(operations: ModuleType, around: Around = plain) -> ModuleType:
    """A copy of operations whose every call goes through around.

    Of those made of our kernels these are the kernels, forward and backward; of others the
    operations forward and those of the optimizer: what torch does backward is not seen."""
    spec = operations.__spec__
    assert spec is not None and spec.loader is not None, "it was imported"
    copy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copy)
    ours = "calls" in vars(copy)
    if ours:
        vars(copy)["calls"] = _Kernels(around)
    for name in _STEP if ours else (*MODEL, *_STEP):
        setattr(
            copy, name, wrapped(around, SUM if name == "add_into" else name, getattr(copy, name))
        )
    return copy


def wrapped(around: Around, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments: around(name, function, arguments)


class _Kernels:
    """The kernels' calls, each through around."""

    def __init__(self, around: Around) -> None:
        self._around = around

    def __getattr__(self, name: str) -> Any:
        function = getattr(calls, name)
        return wrapped(self._around, name, function) if name in _KERNELS else function


@dataclass(frozen=True, slots=True)
class Call:
    """One operation: which, in which phase, at which weight or layer, and digests by
    the names of its arguments."""

    name: str
    phase: str  # "forward of microbatch 0", "the optimizer" …
    microbatch: int | None
    about: str  # The weight it works with, or the last one before it.
    inputs: dict[str, str]
    outputs: dict[str, str]


class Trace:
    """An Around that notes every call."""

    def __init__(self, around: Around = plain) -> None:
        self.calls: list[Call] = []
        self._around = around
        self._weights: dict[int, str] = {}  # By the address of a weight, or of its summed gradient.
        self._learning: list[str] = []  # As the step gives their gradients to norm_of.
        self._about, self._microbatch, self._backward, self._updating = "", -1, False, False

    def watch(self, model: Decoder) -> None:
        """Names for the weights of the model that will be traced."""
        self._weights = {
            p.data_ptr(): name.removesuffix(".weight") for name, p in model.named_parameters()
        }
        learning = (name for name, weight in model.named_parameters() if weight.requires_grad)
        self._learning = sorted(learning, key=str.encode)

    def __call__(self, name: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        self._move(name, arguments)
        inputs = dict(self._inputs(name, arguments))
        result = self._around(name, function, arguments)
        results = result if isinstance(result, tuple) else (result,)
        outputs = dict(_digests([f"output {i}" for i in range(len(results))], results))
        if name == "adamw":  # It works in place.
            outputs |= dict(self._rows(arguments[1]))
        phase = self._phase(name)
        global_operation = name in (SUM, "norm_of", "adamw")  # Of all weights.
        microbatch = None if global_operation or self._updating else self._microbatch
        self.calls.append(
            Call(name, phase, microbatch, "" if global_operation else self._about, inputs, outputs)
        )
        self._updating |= name == "norm_of"
        return result

    def _inputs(self, name: str, arguments: tuple[Any, ...]) -> Iterator[tuple[str, str]]:
        if name == "adamw":
            yield from _digests(["how"], arguments[:1])
            yield from self._rows(arguments[1])
        elif name == "norm_of" and not self._updating:
            yield from _digests(
                [f"gradient of {weight}" for weight in self._learning], arguments[0]
            )
        else:
            yield from _digests(_labels(name), arguments)

    def _rows(self, rows: list[tuple[Tensor, ...]]) -> Iterator[tuple[str, str]]:
        for row in rows:
            name = self._weights[row[0].data_ptr()]
            yield from _digests([f"{part} of {name}.weight" for part in calls.ADAMW], row)

    def _move(self, name: str, arguments: tuple[Any, ...]) -> None:
        if name == "embed":
            self._microbatch, self._backward = self._microbatch + 1, False
        if name == "norm_of" and not self._updating:
            gradients = zip(self._learning, arguments[0], strict=True)
            self._weights |= {
                gradient.data_ptr(): weight.removesuffix(".weight")
                for weight, gradient in gradients
            }
        for tensor in arguments:
            if isinstance(tensor, Tensor) and tensor.data_ptr() in self._weights:
                self._about = self._weights[tensor.data_ptr()]

    def _phase(self, name: str) -> str:
        if name == SUM:
            return "the sum over microbatches"
        if name == "norm_of" and not self._updating:
            return "the gradient norm"
        if self._updating:
            return _UPDATING
        phase = "backward" if self._backward else "forward"
        self._backward |= name == "loss"  # It makes the first gradients with the logits.
        return f"{phase} of microbatch {self._microbatch}"


def _labels(name: str) -> list[str]:
    """The names of an operation's arguments, of the kernel's where both arithmetics have it."""
    return list(inspect.signature(getattr(calls, name)).parameters) if hasattr(calls, name) else []


def _digests(labels: list[str], values: Any) -> Iterator[tuple[str, str]]:
    for index, value in enumerate(values):
        label = labels[index] if index < len(labels) else f"argument {index}"
        if isinstance(value, Tensor):
            yield (
                label,
                digests.content_digest(elements.content_of(value.detach().cpu().numpy())).hex(),
            )
        elif is_dataclass(value):
            names = [field.name for field in fields(value)]
            yield from _digests(
                [f"{label}.{name}" for name in names], [getattr(value, name) for name in names]
            )
        elif isinstance(value, list | tuple):
            yield from _digests([f"{label}[{i}]" for i in range(len(value))], value)
        elif value is not None:
            yield label, repr(value)


@dataclass(frozen=True, slots=True)
class Fork:
    """The first operation at which two traces part: by what goes in, or, of
    equal inputs, by what comes out."""

    call: Call
    by: str  # "inputs", "outputs", "operations"
    names: list[str]  # Of the arguments or results that differ; scalars with both values.

    def as_json(self) -> dict[str, Any]:
        call = self.call
        named = {
            "name": call.name,
            "about": call.about,
            "phase": call.phase,
            "microbatch": call.microbatch,
        }
        return named | {"by": self.by, "differing": self.names}


def parting(trace_a: Trace, trace_b: Trace) -> Fork | None:
    """The first operation that differs between two traces; None where none does."""
    for a, b in itertools.zip_longest(trace_a.calls, trace_b.calls):
        if a is None or b is None or a.name != b.name:
            call = a or b
            assert call is not None, "one of two traces goes on"
            return Fork(call, "operations", [])
        for by in ("inputs", "outputs"):
            pairs = _pairs(getattr(a, by), getattr(b, by))
            if pairs:
                return Fork(a, by, pairs)
    return None


def _pairs(a: Mapping[str, str], b: Mapping[str, str]) -> list[str]:
    """Where two sets of digests differ; an argument that only one of two
    arithmetics takes is passed over."""
    names = [name for name in a if name in b and a[name] != b[name]]
    return [name if len(a[name]) == 64 else f"{name}: {a[name]} and {b[name]}" for name in names]


# ---- computations that differ in one known way -------------------------------------------------


def flushed(name: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """An Around whose results hold no denormal numbers: each becomes a zero of its sign."""
    result = function(*arguments)
    for tensor in (
        *_tensors(result),
        *(_tensors(arguments[1]) if name == "adamw" else ()),
    ):  # It works in place.
        with torch.no_grad():
            tensor[tensor.abs() < SMALLEST_NORMAL] *= 0.0
    return result


def only(chosen: str, around: Around) -> Around:
    """An Around for one operation; the others are left alone."""
    return lambda name, function, arguments: (around if name == chosen else plain)(
        name, function, arguments
    )


class Denormals:
    """An Around that counts the denormal numbers each operation gives."""

    def __init__(self) -> None:
        self.found: dict[str, int] = {}

    def __call__(self, name: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        result = function(*arguments)
        for tensor in _tensors(result):
            small = (tensor != 0) & (tensor.abs() < SMALLEST_NORMAL)
            if count := int(small.sum()):
                self.found[name] = self.found.get(name, 0) + count
        return result


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor) and value.dtype == torch.float32:
        yield value.detach()
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _tensors(inner)


@contextlib.contextmanager
def instruction_set(name: str, threads: int) -> Iterator[None]:
    """Our kernels on another instruction set with one thread; threads
    is how many there are otherwise.

    Raises MachineLacks.
    """
    kernels = library.kernels()
    library.start(kernels, name, 1)
    try:
        yield
    finally:
        library.start(kernels, library.isa(kernels), threads)
