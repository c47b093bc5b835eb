"""Files of a release, chosen at random, held against its manifest where it lies.

Whoever reads a part of a release at an address may want to know whether the place serves what was
sealed. Only a whole release shows whether its chains, data and numbers are sound."""

from __future__ import annotations

import math
import random
import re
import secrets
from typing import Any, NamedTuple

from pellucid.data import stage
from pellucid.errors import CommandInvalid, FileMissing, RemoteChanged, RemoteDiffers
from pellucid.places.threads import each
from pellucid.record.verdict import Problem
from pellucid.store import layout
from pellucid.store.remote import RemotePath
from pellucid.store.sealed import File

_AT_ONCE = 4  # Files on their way.
_SHARE = re.compile(r"([0-9]+(?:\.[0-9]+)?)%")


class Sampled(NamedTuple):
    """Which files were read. total: of the release, and its bytes; seed: the same one chooses the
    same files."""

    files: int
    bytes: int
    total: int
    total_bytes: int
    seed: int
    problems: list[Problem]

    @property
    def ok(self) -> bool:
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        problems = [one._asdict() for one in self.problems]
        return {"ok": self.ok} | self._asdict() | {"problems": problems}


def sample(
    source: RemotePath,
    share: str = "100%",
    seed: int | None = None,
    progress: stage.Progress = stage.silent,
) -> Sampled:
    """Read a share of the files, as 5%, or so many, as 20. Raises CommandInvalid, and what the way
    there raises."""
    served = source.served
    files = sorted(one for one in served.files.values() if one.path != layout.MANIFEST)
    seed = secrets.randbits(63) if seed is None else seed
    chosen = random.Random(seed).sample(files, _count(share, len(files)))
    meter = stage.Meter(progress, "verify", "bytes", 0, sum(one.size for one in chosen))

    def wrong(file: File) -> Problem | None:
        try:
            for piece in served.pieces(file.path):
                meter.add(len(piece))
        except (RemoteDiffers, RemoteChanged) as error:
            return Problem("FileDiffers", file.path, str(error))
        except FileMissing:
            return Problem("FileMissing", file.path, "is in the manifest, but not at the address")
        return None

    problems = [one for one in each(chosen, wrong, _AT_ONCE) if one]
    meter.tell()
    read, total = (sum(one.size for one in group) for group in (chosen, files))
    return Sampled(len(chosen), read, len(files), total, seed, problems)


def _count(share: str, files: int) -> int:
    """At least one. Raises CommandInvalid."""
    part = _SHARE.fullmatch(share)
    if part and 0 < float(part[1]) <= 100:
        return min(files, max(1, math.ceil(files * float(part[1]) / 100)))
    if share.isascii() and share.isdigit() and 0 < int(share) < 10**9:
        return min(files, int(share))
    detail = "--sample takes a share of the files, as 5%, or a number of them, as 20"
    raise CommandInvalid(verb="verify", word=share, detail=detail)
