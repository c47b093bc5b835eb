"""What of an array is hashed: its type by name, and its little-endian bytes in chunks."""

from __future__ import annotations

import numpy as np

from pellucid.record.entries import CHUNK

# Of types that NumPy does not know, the bits as integers, in a type with their name.
DTYPES = {
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype([("BF16", "<u2")]),
    "F8_E4M3": np.dtype([("F8_E4M3", "u1")]),
    "F8_E5M2": np.dtype([("F8_E5M2", "u1")]),
    "I64": np.dtype("<i8"),
    "U16": np.dtype("<u2"),
    "U32": np.dtype("<u4"),
}
_NAMES = {numpy: name for name, numpy in DTYPES.items()}


def dtype_of(array: np.ndarray) -> str:
    """The name of an array's type, whatever the order of its bytes in memory;
    float32 is F32, as in safetensors."""
    return _NAMES[array.dtype.newbyteorder("<")]


def content_of(array: np.ndarray) -> memoryview:
    """The little-endian bytes of an array in row order, without a copy where it lies so already."""
    little = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
    return little.reshape(-1).view("u1").data if array.size else memoryview(b"")


def chunks_of(array: np.ndarray) -> list[memoryview]:
    """The content of an array, in pieces of CHUNK elements; none of an array without elements."""
    content, size = content_of(array), CHUNK * array.itemsize
    return [content[start : start + size] for start in range(0, len(content), size)]
