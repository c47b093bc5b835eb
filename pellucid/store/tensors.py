"""safetensors files: written in one fixed order, read with every bound
checked, hashed where they lie.

The library's writer orders several metadata keys anew each time, so the same weights would give
other bytes; ours sorts them. Reading maps the file and never trusts the header. Format:
github.com/huggingface/safetensors, README, "Format"."""

from __future__ import annotations

import bisect
import itertools
import json
import mmap
import os
import struct
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.errors import FormatInvalid
from pellucid.record import digests, elements, entries
from pellucid.store import arrays, files

MAX_HEADER = 16 << 20  # Bytes: a hundred thousand tensors.
MAX_DIMENSIONS = 8
MAX_SPAN = 1 << 60  # Elements, were no dimension zero.


def header(
    described: Mapping[str, tuple[str, tuple[int, ...], int]], metadata: Mapping[str, str]
) -> bytes:
    """What stands before the content of a file."""
    encoded = description(described, metadata)
    encoded += b" " * (-len(encoded) % 8)
    return struct.pack("<Q", len(encoded)) + encoded


def description(
    described: Mapping[str, tuple[str, tuple[int, ...], int]], metadata: Mapping[str, str]
) -> bytes:
    """JSON: of each tensor its type, its shape and where its bytes lie, sorted by name."""
    about: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    offset = 0
    for name in sorted(described, key=str.encode):
        dtype, shape, size = described[name]
        about[name] = {
            "dtype": dtype,
            "shape": list(shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    return json.dumps(about, separators=(",", ":"), ensure_ascii=True).encode()


def write(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write contiguous little-endian arrays, sorted by name, to a file of its own:
    links of an older one stay."""
    described = {name: (elements.dtype_of(a), a.shape, a.nbytes) for name, a in tensors.items()}
    with files.named_errors(path):
        path.unlink(missing_ok=True)
    with files.named_errors(path), path.open("xb") as file:
        file.write(header(described, metadata))
        for name in sorted(tensors, key=str.encode):
            file.write(elements.content_of(tensors[name]))


class Tensors:
    """A safetensors file; its content is mapped, or fetched, when an array is asked for.

    Raises FormatInvalid on anything but a well-formed one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        files.require_file(path)
        size = path.stat().st_size
        self._require(size >= 8, "is too short for a header")
        self._head = self._bytes(0, 8)
        (length,) = struct.unpack("<Q", self._head)
        self._require(length <= min(MAX_HEADER, size - 8), "has a header longer than the file")
        self._head += self._bytes(8, length)
        header = self._parse(self._head[8:])
        self.metadata: dict[str, str] = header.pop("__metadata__", {})
        self._require(isinstance(self.metadata, dict), "has metadata that is not an object")
        self._start = 8 + length
        self.entries: dict[str, tuple[str, tuple[int, ...], int, int]] = {}
        end = self._check(header)
        self._require(self._start + end == size, "does not end where its last tensor ends")

    def _require(self, condition: bool, detail: str) -> None:
        if not condition:
            raise FormatInvalid(path=self.path, detail=detail)

    def _bytes(self, start: int, count: int) -> bytes:
        """Some bytes of the file, and no others: behind a URL a range of it."""
        with files.open_file(self.path) as file, files.named_errors(self.path, "read"):
            file.seek(start)
            content = file.read(count)
        self._require(len(content) == count, "is shorter than when it was opened")
        return content

    @cached_property
    def _map(self) -> mmap.mmap:
        content = arrays.content(self.path)
        self._require(
            content[: self._start] == self._head, "is another file than when it was opened"
        )
        return content

    def _parse(self, encoded: bytes) -> dict[str, Any]:
        try:
            header = files.parse_json(encoded)
        except (ValueError, RecursionError):
            header = None
        if not isinstance(header, dict):
            raise FormatInvalid(path=self.path, detail="has a header that is not a JSON object")
        return header

    def _check(self, header: dict[str, Any]) -> int:
        """Every tensor in range, of a known type, and one after the other without a gap."""
        end = 0
        for name, info in header.items():
            try:
                dtype, shape, (start, stop) = (
                    info["dtype"],
                    tuple(info["shape"]),
                    info["data_offsets"],
                )
                # A zero byte ends a name in what is hashed: one inside it could say two things.
                self._require("\0" not in name, "names a tensor with a zero byte")
                self._require(len(shape) <= MAX_DIMENSIONS, f"gives {name} a bad shape")
                count = span = 1
                for dim in shape:
                    self._require(
                        type(dim) is int and 0 <= dim <= MAX_SPAN, f"gives {name} a bad shape"
                    )
                    count, span = count * dim, span * max(dim, 1)
                self._require(span <= MAX_SPAN, f"gives {name} a bad shape")
                width = elements.DTYPES[dtype].itemsize
                sound = (
                    type(start) is int
                    and type(stop) is int
                    and start == end
                    and stop - start == count * width
                )
            except (KeyError, TypeError, ValueError) as error:
                raise FormatInvalid(
                    path=self.path, detail=f"describes the tensor {name} wrongly"
                ) from error
            self._require(sound, f"places the tensor {name} wrongly")
            self.entries[name] = (dtype, shape, start, stop)
            end = stop
        return end

    def part(self, name: str, first: int, last: int) -> bytes:
        """The little-endian bytes of a tensor's elements first .. last - 1, in row order."""
        dtype, _, start, stop = self.entries[name]
        width = elements.DTYPES[dtype].itemsize
        assert 0 <= first <= last <= (stop - start) // width
        return self._bytes(self._start + start + first * width, (last - first) * width)

    def array(self, name: str) -> np.ndarray:
        """A view of one tensor, read-only."""
        dtype, shape, start, _ = self.entries[name]
        count = int(np.prod(shape, dtype=np.int64))
        return np.frombuffer(self._map, elements.DTYPES[dtype], count, self._start + start).reshape(
            shape
        )

    @property
    def in_order(self) -> bool:
        """Whether the header is the one that is written here: sorted by name, in one spelling."""
        described = {
            name: (dtype, shape, end - start)
            for name, (dtype, shape, start, end) in self.entries.items()
        }
        return self._head == header(described, self.metadata)

    def arrays(self) -> dict[str, np.ndarray]:
        return {name: self.array(name) for name in self.entries}

    def root(self, group: str) -> bytes:
        """The root over all tensors, as those of one group."""
        return group_root(group, self.arrays())


def group_root(group: str, arrays: Mapping[str, np.ndarray]) -> bytes:
    """The root over a group's arrays, given by their names."""
    return entries.group_root(group, contents({group: arrays})[group])


def state_roots(step: int, groups: Mapping[str, Mapping[str, np.ndarray]]) -> entries.StateRoots:
    """The digests of a full state given as {group: {tensor name: array}}."""
    return entries.StateRoots(step, contents(groups))


def contents(
    groups: Mapping[str, Mapping[str, np.ndarray]],
) -> dict[str, dict[str, entries.Content]]:
    """What is hashed of every array: its type, its shape and the digests of its chunks."""
    chunks = {
        group: {name: elements.chunks_of(a) for name, a in arrays.items()}
        for group, arrays in groups.items()
    }
    hashes = iter(
        hashed([chunk for named in chunks.values() for own in named.values() for chunk in own])
    )

    def content(array: np.ndarray, own: list[memoryview]) -> entries.Content:
        return entries.Content(
            elements.dtype_of(array), array.shape, tuple(itertools.islice(hashes, len(own)))
        )

    return {
        g: {name: content(groups[g][name], own) for name, own in named.items()}
        for g, named in chunks.items()
    }


def hashed(chunks: list[memoryview]) -> list[bytes]:
    """The BLAKE3 digest of every chunk, in their order."""
    # Each thread takes chunks that follow one another, of about as many bytes as every
    # other's: one large tensor is divided like many small ones, and handing over chunks one by
    # one costs more than it gains.
    ends = list(itertools.accumulate(chunk.nbytes for chunk in chunks))
    cuts = (
        [bisect.bisect_left(ends, ends[-1] * part // _THREADS) for part in range(1, _THREADS)]
        if ends
        else []
    )
    spans = [chunks[first:last] for first, last in itertools.pairwise([0, *cuts, len(chunks)])]
    return [digest for span in _POOL.map(_digests, spans) for digest in span]


def _digests(chunks: list[memoryview]) -> list[bytes]:
    return [digests.content_digest(chunk) for chunk in chunks]


_THREADS = min(8, os.cpu_count() or 1)
_POOL = ThreadPoolExecutor(_THREADS, thread_name_prefix="hash")
