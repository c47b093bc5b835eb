"""gzip's and xz's sizes of the validation texts, beside the model's bits per byte.

Releases of zlib and liblzma pack one text into slightly different sizes. So a check packs the texts
again, and allows the two sizes a stated difference; all else is compared exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pellucid.look import baselines
from pellucid.site.pack import canonical
from pellucid.store import files

NAME = "baselines"
MORE = 2  # Bytes that the piece of another library may be longer: a digit of each size.
_PACKERS = ("gzip", "xz")
_PART, _LEAST = 50, 16  # A size may differ by a fiftieth, or by so many bytes.


def made(folder: Path) -> dict[str, Any]:
    """Raises FormatInvalid."""
    return baselines.packed(*baselines.validated(folder))._asdict()


def agrees(pieces: list[bytes], expected: list[bytes]) -> bool:
    """Whether a file says what was packed again here, but for what another library may differ."""
    try:
        (piece,), (made_here,) = pieces, expected
        said, own = files.parse_json(piece), files.parse_json(made_here)
        sizes = {name: said[name] for name in _PACKERS}
        return canonical(own | sizes) == piece and all(
            type(size) is int and abs(size - own[name]) <= max(own[name] // _PART, _LEAST)
            for name, size in sizes.items()
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
