from __future__ import annotations

import contextlib
import json
import struct
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.errors import FormatInvalid
from pellucid.record import elements
from pellucid.store import tensors

ARRAYS = {
    "b": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a": np.zeros((0, 4), np.float32),
    "ä": np.ones((), np.float32),
}


def test_the_library_reads_what_we_write(tmp_path: Path) -> None:
    tensors.write(tmp_path / "x", ARRAYS, {"format": "pt", "step": "3"})
    read = safetensors.numpy.load_file(tmp_path / "x")
    assert read.keys() == ARRAYS.keys()
    assert all(
        (read[name] == ARRAYS[name]).all() and read[name].shape == ARRAYS[name].shape
        for name in ARRAYS
    )


def test_we_read_what_the_library_writes(tmp_path: Path) -> None:
    safetensors.numpy.save_file(ARRAYS, tmp_path / "x", {"step": "3"})
    read = tensors.Tensors(tmp_path / "x")
    assert read.metadata == {"step": "3"}
    assert all((read.array(name) == ARRAYS[name]).all() for name in ARRAYS)
    assert read.root("weights") == tensors.group_root("weights", ARRAYS)


def test_the_same_tensors_give_the_same_bytes(tmp_path: Path) -> None:
    metadata = {f"key{number}": "x" for number in range(10)}
    tensors.write(tmp_path / "x", ARRAYS, metadata)
    tensors.write(tmp_path / "y", dict(reversed(ARRAYS.items())), dict(reversed(metadata.items())))
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()


def test_the_order_of_bytes_in_memory_changes_nothing(tmp_path: Path) -> None:
    swapped = {name: array.astype(array.dtype.newbyteorder(">")) for name, array in ARRAYS.items()}
    assert tensors.contents({"g": swapped}) == tensors.contents({"g": ARRAYS})
    tensors.write(tmp_path / "x", ARRAYS, {})
    tensors.write(tmp_path / "y", swapped, {})
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()


def file_with(header: object, data: bytes = b"\0" * 24, length: int | None = None) -> bytes:
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(encoded) if length is None else length) + encoded + data


def info(
    dtype: object = "F32", shape: object = (2, 3), offsets: object = (0, 24)
) -> dict[str, object]:
    return {"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\1\2",
        file_with({}, length=2**63),
        file_with(b"not json"),
        file_with([1]),
        file_with(b"[" * 90_000),
        file_with({"__metadata__": 3}, b""),
        file_with(info(dtype="F4")),
        file_with(info(dtype=["F32"])),
        file_with(info(shape=[2, -3])),
        file_with(info(shape=[2**62, 2**62])),
        file_with(info(shape="23")),
        file_with(info(offsets=[0, 20])),
        file_with(info(offsets=[4, 28])),
        file_with(info(offsets=[0, 24, 3])),
        file_with(info(offsets=[0.0, 24.0])),
        file_with({"a": None}),
        file_with({"a\0b": info()["a"]}),
        file_with(info(), b"\0" * 23),
        file_with(info(), b"\0" * 25),
        file_with({**info(), "b": info()["a"]}),
    ],
)
def test_a_malformed_file_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(FormatInvalid):
        tensors.Tensors(tmp_path / "x")


@settings(max_examples=200)
@given(st.data())
def test_a_changed_byte_gives_another_tensor_or_a_named_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed"
    tensors.write(path, ARRAYS, {"step": "3"})
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    with contextlib.suppress(FormatInvalid):
        tensors.Tensors(path).root("weights")


BITS = {
    name: f"uint{8 * elements.DTYPES[name].itemsize}" for name in ("BF16", "F8_E4M3", "F8_E5M2")
}


def test_types_that_numpy_does_not_know_are_bits_with_a_name(tmp_path: Path) -> None:
    torch.manual_seed(1)
    types = {"BF16": torch.bfloat16, "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2}
    named = {name: torch.randn(3, 5).to(dtype) for name, dtype in types.items()} | {
        "F16": torch.randn(4).half()
    }
    safetensors.torch.save_file(named, tmp_path / "x")
    read = tensors.Tensors(tmp_path / "x")
    assert {name: elements.dtype_of(array) for name, array in read.arrays().items()} == {
        name: name for name in named
    }
    for name, bits in BITS.items():
        assert (read.array(name).view(bits) == named[name].view(getattr(torch, bits)).numpy()).all()
    tensors.write(tmp_path / "y", read.arrays(), {})
    again = safetensors.torch.load_file(tmp_path / "y")
    assert all(
        torch.equal(again[name].view(torch.uint8), tensor.view(torch.uint8))
        for name, tensor in named.items()
    )


def test_a_type_is_part_of_what_is_hashed() -> None:
    bits = np.arange(6, dtype="u2")
    leaves = {
        tensors.group_root("g", {"a": bits.view(elements.DTYPES[name])})
        for name in ("U16", "F16", "BF16")
    }
    assert len(leaves) == 3


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_chunks_are_those_of_the_content_whatever_thread_hashes_them(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensors, "_THREADS", threads)
    sizes = {"none": 0, "one": 1, "full": 1 << 16, "more": (1 << 16) + 1, "many": 5 << 16}
    arrays = {name: np.arange(size, dtype=np.float32) for name, size in sizes.items()}
    contents = tensors.contents({"g": arrays})["g"]
    for name, array in arrays.items():
        content = array.tobytes()
        expected = [
            blake3(content[at : at + (4 << 16)]).digest() for at in range(0, len(content), 4 << 16)
        ]
        assert list(contents[name].chunks) == expected
    assert tensors.contents({}) == {} and tensors.contents({"g": {}}) == {"g": {}}
