"""Philox4x32-10, the one source of random numbers (Salmon et al., "Parallel Random Numbers: As Easy
as 1, 2, 3", SC 2011).

Counter-based: the draw at an index depends on the key and the index alone, so nothing
random is ever stored, and any value can be asked for by itself. Integer arithmetic only,
hence the same everywhere."""

from __future__ import annotations

import hashlib

import numpy as np

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


def key_of(seed: int, purpose: str) -> int:
    """The 64-bit key for one purpose under a seed: two purposes never share a stream."""
    text = f"pellucid key 1\0{seed}\0{purpose}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "little")


def philox(key: int, counters_N4: np.ndarray) -> np.ndarray:
    """Ten rounds over counters of shape (N, 4), dtype uint32; returns (N, 4) uint32."""
    c0, c1, c2, c3 = (counters_N4[:, i].astype(np.uint64) for i in range(4))
    k0, k1 = key & 0xFFFFFFFF, key >> 32
    for _ in range(10):
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            (p1 >> _SHIFT) ^ c1 ^ np.uint64(k0),
            p1 & _LOW,
            (p0 >> _SHIFT) ^ c3 ^ np.uint64(k1),
            p0 & _LOW,
        )
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=1).astype(np.uint32)


def draws(key: int, start: int, count: int) -> np.ndarray:
    """The 32-bit draws with indices start .. start+count-1, shape (count,) uint32.

    Draw i is word i % 4 of the block whose counter is i // 4 (64 bits, in the two low words).
    """
    first, last = start // 4, (start + count + 3) // 4
    blocks = np.arange(first, last, dtype=np.uint64)
    zeros = np.zeros_like(blocks)
    counters = np.stack([blocks & _LOW, blocks >> _SHIFT, zeros, zeros], axis=1)
    return philox(key, counters).reshape(-1)[start - 4 * first : start - 4 * first + count]


def uniform_signed(key: int, start: int, count: int) -> np.ndarray:
    """Uniform values in (-1, 1), exact in float64: (2k + 1 - 2^24) *
    2^-24 from the high 24 bits k."""
    k = (draws(key, start, count) >> np.uint32(8)).astype(np.int64)
    return (2 * k + 1 - (1 << 24)).astype(np.float64) * 2.0**-24
