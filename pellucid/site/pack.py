"""The one form of the site's data files: a script that hands pieces of data to the page.

    pellucid("steps/00003",["…"]);

Each piece is raw DEFLATE in base64. A browser that opens the site from a folder may run scripts and
may not read files, so data are scripts. A check compares what the pieces hold, never their bytes:
releases of zlib compress one text in different ways."""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pellucid.errors import FormatInvalid

_RAW = -15  # zlib's word for DEFLATE without a header, which browsers call deflate-raw.
_TAIL = b'"]);\n'


def canonical(value: object) -> bytes:
    """The one JSON spelling of a value that a page reads. Raises ValueError for NaN."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8")


def packed(name: str, pieces: Iterable[bytes], dictionary: bytes = b"") -> bytes:
    """The data file of these pieces, one at least, packed behind a dictionary. name: a-z, digits,
    /."""
    packer = zlib.compressobj(9, zlib.DEFLATED, _RAW, zdict=dictionary)
    texts = [base64.b64encode(_deflated(piece, packer.copy())) for piece in pieces]
    return _head(name) + b'","'.join(texts) + _TAIL


def unpacked(
    content: bytes, name: str, most: int, path: Path | str, dictionary: bytes = b""
) -> list[bytes]:
    """The pieces of a data file, which hold at most so many bytes together, packed behind a
    dictionary.

    Raises FormatInvalid for anything else: a browser would run it."""
    head = _head(name)
    if not (content.startswith(head) and content.endswith(_TAIL)):
        raise FormatInvalid(path=path, detail=f"is not the data file {name} of a site")
    pieces = []
    for text in content[len(head) : -len(_TAIL)].split(b'","'):
        pieces.append(_inflated(text, most, path, dictionary))
        most -= len(pieces[-1])
    return pieces


def spans(content: bytes, name: str) -> list[tuple[int, int]]:
    """Where each piece lies in a data file: first byte and length of its base64."""
    at, found = len(_head(name)), []
    for text in content[at : -len(_TAIL)].split(b'","'):
        found.append((at, len(text)))
        at += len(text) + len(b'","')
    return found


def _head(name: str) -> bytes:
    return f'pellucid("{name}",["'.encode("ascii")


def _deflated(piece: bytes, packer: Any) -> bytes:
    return packer.compress(piece) + packer.flush()


def _inflated(text: bytes, most: int, path: Path | str, dictionary: bytes) -> bytes:
    opener = zlib.decompressobj(_RAW, zdict=dictionary)
    try:
        piece = opener.decompress(base64.b64decode(text, validate=True), most + 1)
    except (binascii.Error, zlib.error) as error:
        detail = f"holds a piece that cannot be unpacked ({error})"
        raise FormatInvalid(path=path, detail=detail) from error
    if len(piece) > most or not opener.eof or opener.unused_data:
        raise FormatInvalid(path=path, detail="holds pieces of another size than the record gives")
    return piece
