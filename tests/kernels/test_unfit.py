"""What does not fit is refused by name, and a library that is missing or wrong is not used."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pellucid.errors import KernelsMissing, KernelsWrong, MachineLacks, TensorUnfit
from pellucid.kernels import calls, library, sources
from pellucid.objectives import CrossEntropy, Minimised, Use
from pellucid.operations import portable
from tests.conftest import make_run, pellucid
from tests.kernels.machine import SOURCES, build_flags, compile_c, compiler

ones, zeros = torch.ones, torch.zeros
B, T, H, K, C = 2, 5, 4, 2, 6
M, D, V = 4, 3, 7
HOW = calls.AdamW(lr=1e-3, beta1=0.9, beta2=0.95, epsilon=1e-8, weight_decay=0.1, step=1, clip=1.0)

ATTENDED = {
    "q": ones(B, T, H, C),
    "k": ones(B, T, K, C),
    "v": ones(B, T, K, C),
    "cos": ones(T, C // 2),
    "sin": ones(T, C // 2),
    "first": zeros((B, T), dtype=torch.int32),
}

# Every operation with inputs that fit, by the names that its errors use.
FITS: dict[str, tuple[Callable[..., object], dict[str, torch.Tensor]]] = {
    "product": (
        lambda a, b, start: calls.product(a, b, start),
        {"a": ones(M, D), "b": ones(D, V), "start": ones(M, V)},
    ),
    "gram": (lambda a: calls.gram(a), {"a": ones(M, D)}),
    "norm": (lambda x, w: calls.norm(x, w, 1e-5), {"x": ones(M, D), "w": ones(D)}),
    "norm_backward": (
        lambda x, w, r, dy, past: calls.norm_backward(x, w, r, dy, past),
        {"x": ones(M, D), "w": ones(D), "r": ones(M), "dy": ones(M, D), "past": ones(M, D)},
    ),
    "swiglu": (lambda a, u: calls.swiglu(a, u), {"a": ones(M, D), "u": ones(M, D)}),
    "swiglu_backward": (
        lambda a, u, dh: calls.swiglu_backward(a, u, dh),
        {"a": ones(M, D), "u": ones(M, D), "dh": ones(M, D)},
    ),
    "attention": (
        lambda q, k, v, cos, sin, first: calls.attention(q, k, v, calls.Places(cos, sin, first)),
        ATTENDED,
    ),
    "attention_backward": (
        lambda q, k, v, cos, sin, first, o, m, g, do: calls.attention_backward(
            q, k, v, calls.Places(cos, sin, first), (o, m, g), do
        ),
        {
            **ATTENDED,
            "o": ones(B, T, H, C),
            "m": ones(B, H, T),
            "g": ones(B, H, T),
            "do": ones(B, T, H, C),
        },
    ),
    "loss": (
        lambda x, w, targets, softmax, onehot: calls.loss(x, w, targets, (softmax, onehot)),
        {
            "x": ones(M, D),
            "w": ones(V, D),
            "targets": zeros(M, dtype=torch.int64),
            "softmax": ones(M),
            "onehot": ones(M),
        },
    ),
    "embed": (
        lambda tokens, e: calls.embed(tokens, e),
        {"tokens": zeros(M, dtype=torch.int64), "e": ones(V, D)},
    ),
    "embed_backward": (
        lambda tokens, dx: calls.embed_backward(tokens, dx, V),
        {"tokens": zeros(M, dtype=torch.int64), "dx": ones(M, D)},
    ),
    "add": (lambda a, b: calls.add_into(a, b), {"a": ones(M, D), "b": ones(M, D)}),
    "axpby": (lambda x, y: calls.axpby_into(x, 0.5, 2.0, y), {"x": ones(M, D), "y": ones(M, D)}),
    "norm_of": (lambda x: calls.norm_of([ones(3), x]), {"x": ones(M, D)}),
    "adamw": (
        lambda p, g, m, v: calls.adamw(HOW, [(p, g, m, v)]),
        {"p": ones(M, D), "g": ones(M, D), "m": ones(M, D), "v": ones(M, D)},
    ),
}
EACH = [(operation, name) for operation, (_, tensors) in FITS.items() for name in tensors]


def assert_unfit(operation: str, names: set[str], call: Callable[[], object]) -> None:
    with pytest.raises(TensorUnfit) as caught:
        call()
    named = re.match(rf"{operation}: (\w+) is .+, but must be .+\.", str(caught.value))
    assert named and named[1] in names, caught.value


def refused(operation: str, name: str, wrong: torch.Tensor, also: set[str] | None = None) -> None:
    """Where two tensors do not fit each other, either may be named."""
    call, tensors = FITS[operation]
    assert_unfit(operation, {name, *(also or ())}, lambda: call(**{**tensors, name: wrong}))


@pytest.mark.parametrize("operation", FITS)
def test_what_fits_is_taken(operation: str) -> None:
    call, tensors = FITS[operation]
    call(**{name: tensor.clone() for name, tensor in tensors.items()})


@pytest.mark.parametrize(("operation", "name"), EACH)
def test_another_dtype_is_refused(operation: str, name: str) -> None:
    tensor = FITS[operation][1][name]
    for dtype in (torch.float64, torch.bfloat16, torch.int32, torch.int64):
        if dtype != tensor.dtype:
            refused(operation, name, tensor.to(dtype))


@pytest.mark.parametrize(("operation", "name"), EACH)
def test_another_device_is_refused(operation: str, name: str) -> None:
    refused(operation, name, FITS[operation][1][name].to("meta"))


@pytest.mark.parametrize(("operation", "name"), EACH)
def test_gaps_are_refused(operation: str, name: str) -> None:
    tensor = FITS[operation][1][name]
    gaps = torch.stack([tensor, tensor], dim=-1)[..., 0]
    refused(operation, name, gaps)


@pytest.mark.parametrize(("operation", "name"), EACH)
def test_another_layout_is_refused(operation: str, name: str) -> None:
    refused(operation, name, FITS[operation][1][name].to_sparse())


# The dimensions that may have any size: no other tensor has them.
FREE = {
    ("gram", "a"): {0, 1},
    ("norm", "x"): {0},
    ("loss", "w"): {0},
    ("embed", "tokens"): {0},
    ("embed", "e"): {0, 1},
    ("embed_backward", "dx"): {1},
}


@pytest.mark.parametrize(("operation", "name"), [pair for pair in EACH if pair[0] != "norm_of"])
def test_another_shape_is_refused(operation: str, name: str) -> None:
    """One more along a dimension, a dimension more, a dimension less. What sets the
    shape of others may blame them."""
    tensors = FITS[operation][1]
    tensor = tensors[name]
    fixed = set(range(tensor.dim())) - FREE.get((operation, name), set())
    longer = [torch.cat([tensor, tensor.narrow(dim, 0, 1)], dim) for dim in sorted(fixed)]
    for wrong in [*longer, tensor[None], tensor[0]]:
        refused(operation, name, wrong, also=set(tensors))


@pytest.mark.parametrize(
    ("operation", "name"), [("loss", "targets"), ("embed", "tokens"), ("embed_backward", "tokens")]
)
@pytest.mark.parametrize("wrong", [-1, V, 2**40, -(2**63)])
def test_ids_out_of_range_are_refused(operation: str, name: str, wrong: int) -> None:
    ids = zeros(M, dtype=torch.int64)
    ids[1] = wrong
    refused(operation, name, ids)


@pytest.mark.parametrize("operation", ["attention", "attention_backward"])
@pytest.mark.parametrize(
    "first", [[0, 1, 0, 0, 0], [0, 0, 3, 3, 3], [0, 0, 0, 0, 5], [-1, 0, 0, 0, 0]]
)
def test_places_where_attention_cannot_look_are_refused(operation: str, first: list[int]) -> None:
    refused(operation, "first", torch.tensor([[0] * T, first], dtype=torch.int32))


@pytest.mark.parametrize("operation", ["attention", "attention_backward"])
@pytest.mark.parametrize(
    ("heads", "kv_heads", "width"), [(4, 3, 6), (4, 2, 5), (2, 4, 6), (2, 0, 6), (2, 2, 0)]
)
def test_heads_that_cannot_be_grouped_or_paired_are_refused(
    operation: str, heads: int, kv_heads: int, width: int
) -> None:
    call, tensors = FITS[operation]
    own, shared, half = (B, T, heads, width), (B, T, kv_heads, width), (T, width // 2)
    shapes = {"q": own, "k": shared, "v": shared, "cos": half, "sin": half, "o": own, "do": own}
    shapes |= {"m": (B, heads, T), "g": (B, heads, T)}
    given = {
        name: ones(shapes[name]) if name in shapes else tensor for name, tensor in tensors.items()
    }
    assert_unfit(operation, {"q", "k", "v"}, lambda: call(**given))


NOTHING: dict[str, Callable[[], object]] = {
    "product": lambda: calls.product(ones(M, 0), ones(0, V)),
    "gram": lambda: calls.gram(ones(M, 0)),
    "norm_backward": lambda: calls.norm_backward(ones(0, D), ones(D), ones(0), ones(0, D), None),
    "loss of no target": lambda: calls.loss(ones(0, D), ones(V, D), zeros(0, dtype=torch.int64)),
    "loss of no token": lambda: calls.loss(ones(0, D), ones(0, D), zeros(0, dtype=torch.int64)),
    "norm_of": lambda: calls.norm_of([]),
    "norm_of an empty one": lambda: calls.norm_of([ones(0)]),
    "adamw": lambda: calls.adamw(HOW, []),
    "adamw of an empty one": lambda: calls.adamw(HOW, [(ones(0), ones(0), ones(0), ones(0))]),
}


@pytest.mark.parametrize("name", NOTHING)
def test_sums_of_nothing_are_refused(name: str) -> None:
    with pytest.raises(TensorUnfit, match=f"^{name.split()[0]}: "):
        NOTHING[name]()


@pytest.mark.parametrize(
    ("positions", "width", "theta"),
    [(4, 5, 1e4), (4, 0, 1e4), (0, 4, 1e4), (4, 4, 0.0), (4, 4, float("inf"))],
)
def test_a_rotary_table_that_cannot_be_is_refused(positions: int, width: int, theta: float) -> None:
    with pytest.raises(TensorUnfit, match=r"^rotary_table: "):
        calls.rotary_table(positions, width, theta)


def test_a_step_before_the_first_is_refused() -> None:
    with pytest.raises(TensorUnfit, match=r"^adamw: step is 0"):
        calls.adamw(replace(HOW, step=0), [(ones(M, D), ones(M, D), ones(M, D), ones(M, D))])


def test_half_of_what_attention_returned_is_refused() -> None:
    q, k, v, *places = ATTENDED.values()
    with pytest.raises(TensorUnfit, match=r"^attention_backward: forward is 2 tensors"):
        calls.attention_backward(q, k, v, calls.Places(*places), (q, q), q)


def test_rows_that_are_compressed_are_refused() -> None:
    assert_unfit("product", {"a"}, lambda: calls.product(ones(M, D).to_sparse_csr(), ones(D, V)))


def test_backward_begins_at_the_objective_and_nowhere_else() -> None:
    x, w = ones(1, M, D).requires_grad_(), ones(V, D).requires_grad_()
    use = Use(np.ones((1, M), np.uint32), np.zeros(1, np.uint64), None)
    part = Minimised(CrossEntropy(), use, M)
    _, objective = portable.loss(x, w, zeros((1, M), dtype=torch.int64), part)
    with pytest.raises(TensorUnfit, match=r"^loss: its gradient is 2\.0, but must be 1"):
        (objective + objective).backward()


def test_results_do_not_follow_torchs_defaults() -> None:
    a, u = ones(3), ones(3)
    wanted = calls.swiglu(a, u)
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(calls.swiglu(a, u), wanted)
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.device("meta"):
        assert torch.equal(calls.swiglu(a, u), wanted)


# The library


def test_an_instruction_set_that_is_not_here_is_refused() -> None:
    for name in ("z80", "", "avx"):
        with pytest.raises(MachineLacks, match=f"asks for '{name}'"):
            library.start(library.kernels(), name, 1)
    library.set_threads(1)


def test_the_command_line_refuses_an_unknown_instruction_set(corpus: Path, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", corpus)
    done = pellucid("run", folder, check=3, env={library.VARIABLE: "z80"})
    assert (
        "MachineLacks: PELLUCID_ISA asks for 'z80'" in done.stderr
        and "Choose from avx512, avx2" in done.stderr
    )
    assert not (folder / "record" / "ledger.jsonl").exists()


def test_no_library_is_an_error_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KernelsMissing, match=r"nothing\.so"):
        library.load(tmp_path / "nothing.so")
    (tmp_path / "text.so").write_text("not a library")
    with pytest.raises(KernelsMissing, match=r"text\.so"):
        library.load(tmp_path / "text.so")
    monkeypatch.setattr(library, "FOLDER", tmp_path)
    with pytest.raises(KernelsMissing, match=re.escape(f"there is no _kernels.so in {tmp_path}")):
        library.load()


def test_kernels_that_give_other_bits_are_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One coefficient of exp is cut short, in sources that the library says it was built from."""
    compiler()
    changed = tmp_path / "src"
    changed.mkdir()
    for path in SOURCES.iterdir():
        text = path.read_text()
        assert path.name != "simd.h" or text.count("0x1.5558f2p-5f") == 1
        (changed / path.name).write_text(text.replace("0x1.5558f2p-5f", "0x1.5558p-5f"))
    made_from = f'-DPELLUCID_SOURCES="{sources.digest(changed)}"'
    flags = ("-O0", "-shared", "-fPIC", made_from)
    compile_c(tmp_path / "_kernels.so", *flags, *sorted(changed.glob("*.c")), sources=changed)
    monkeypatch.setattr(library, "FOLDER", tmp_path)
    with pytest.raises(KernelsWrong, match=r"operation: (swiglu|attention|loss)"):
        library.kernels.__wrapped__()


def test_fast_math_after_our_flags_does_not_compile() -> None:
    gcc, check = compiler(), ["-fsyntax-only", str(SOURCES / "functions.c")]
    done = subprocess.run(
        [gcc, *build_flags(), "-ffast-math", *check], capture_output=True, text=True
    )
    assert done.returncode != 0 and "cannot be built with -ffast-math" in done.stderr
    assert subprocess.run([gcc, "-Ofast", "-ffast-math", *build_flags(), *check]).returncode == 0
