"""The digest of a tensor that lies in shards, a shard a process, without putting it together.

Chunks of a tensor know of no process (docs/format.md, section 11). A chunk is hashed where its
first element lies: who holds other elements of it sends them there. Shards along another axis than
the rows become shards of rows first."""

from __future__ import annotations

import bisect
import hashlib
import itertools

import numpy as np
import torch

from pellucid.record import elements
from pellucid.record.entries import CHUNK, Content
from pellucid.store import tensors
from pellucid.train.processes import Processes


def content(processes: Processes, shard: np.ndarray, axis: int = 0) -> Content:
    """What is hashed of a whole tensor, on every process, from the shard that each of them holds.

    shard: part `rank` of the tensor along an axis, of any length, 0 too; all other dimensions are
    the tensor's. All processes ask at the same time. Raises ProcessDiffers, ProcessLost."""
    dtype, other_dims = elements.dtype_of(shard), (*shard.shape[:axis], *shard.shape[axis + 1 :])
    shard = shard.astype(elements.DTYPES[dtype], copy=False)
    form = hashlib.sha256(repr((dtype, axis, other_dims)).encode())
    processes.compare({"type or shape of a shard": form.digest()})
    lengths = [int(length[0]) for length in _gathered(processes, np.array([shard.shape[axis]]))]
    shape = (*shard.shape[:axis], sum(lengths), *shard.shape[axis + 1 :])
    if axis:
        shard, lengths = _rows(processes, shard, axis, lengths)
    row = int(np.prod(shape[1:], dtype=np.int64))
    starts = [row * first for first in itertools.accumulate(lengths, initial=0)]
    chunks = _chunks(processes, shard, starts)
    return Content(dtype, shape, _everybodys(processes, tensors.hashed(chunks), starts))


def _rows(
    processes: Processes, shard: np.ndarray, axis: int, lengths: list[int]
) -> tuple[np.ndarray, list[int]]:
    """Rows in place of a part along another axis, and how many each process then has."""
    rank, count = processes.rank, processes.count
    cuts = [len(shard) * process // count for process in range(count + 1)]
    parts = [shard[cuts[rank] : cuts[rank + 1]]] * count
    # In each turn every process meets one other or none, and after all turns each met all others.
    for peer in ((turn - rank) % count for turn in range(count)):
        piece = shard[cuts[peer] : cuts[peer + 1]]
        shape = (*parts[rank].shape[:axis], lengths[peer], *shard.shape[axis + 1 :])
        if rank < peer:
            _send(processes, piece, peer)
        if rank != peer:
            received = _receive(processes, int(np.prod(shape)) * shard.itemsize, peer)
            parts[peer] = received.view(shard.dtype).reshape(shape)
        if rank > peer:
            _send(processes, piece, peer)
    return np.concatenate(parts, axis), np.diff(cuts).tolist()


def _chunks(processes: Processes, shard: np.ndarray, starts: list[int]) -> list[memoryview]:
    """The chunks whose first element is this process's, whole;
    starts[p] is the first element of p."""
    own = np.frombuffer(elements.content_of(shard), np.uint8)
    start, stop = starts[processes.rank : processes.rank + 2]
    head = min(-start % CHUNK, stop - start) * shard.itemsize  # Bytes of a chunk begun elsewhere.
    if head:
        _send(processes, own[:head], bisect.bisect_right(starts, start - start % CHUNK) - 1)
    own = own[head:]
    if not own.size:
        return []
    end, parts = min(stop + -stop % CHUNK, starts[-1]), [own]
    for peer in range(processes.rank + 1, processes.count):
        size = min(starts[peer + 1], end) - min(starts[peer], end)
        parts.append(_receive(processes, size * shard.itemsize, peer))
    # The last chunk alone is copied.
    chunk_bytes, size = CHUNK * shard.itemsize, own.size
    last = (size - 1) // chunk_bytes * chunk_bytes
    chunks = [own[place : place + chunk_bytes] for place in range(0, last, chunk_bytes)]
    return [chunk.data for chunk in (*chunks, np.concatenate([own[last:], *parts[1:]]))]


def _everybodys(processes: Processes, own: list[bytes], starts: list[int]) -> tuple[bytes, ...]:
    """The digests of all chunks in order, from those of each process's own."""
    begun = [-(-start // CHUNK) for start in starts]  # Chunks that begin before a process's.
    counts = np.diff(begun).tolist()
    padded = np.zeros((max(counts), 32), np.uint8)
    padded[: len(own)] = np.frombuffer(b"".join(own), np.uint8).reshape(-1, 32)
    gathered = _gathered(processes, padded) if padded.size else [padded] * len(counts)
    return tuple(
        row.tobytes() for rows, n in zip(gathered, counts, strict=True) for row in rows[:n]
    )


def _gathered(processes: Processes, array: np.ndarray) -> list[np.ndarray]:
    return processes.messages.gather(array) if processes.messages else [array]


def _send(processes: Processes, array: np.ndarray, to: int) -> None:
    """Send the bytes of an array; none are no message."""
    if array.size:
        assert processes.messages
        processes.messages.send(
            torch.from_numpy(np.array(array, order="C").reshape(-1).view(np.uint8)), to
        )


def _receive(processes: Processes, size: int, source: int) -> np.ndarray:
    """So many bytes of another process, shape (size,) uint8."""
    if not size:
        return np.empty(0, np.uint8)
    assert processes.messages
    return processes.messages.receive(torch.empty(size, dtype=torch.uint8), source).numpy()
