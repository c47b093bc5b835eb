"""Entries of the ledger in a pack: the keys of equal entries once, and digests and floats as bytes,
which pack better apart from everything else."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from pellucid.record import chain

_BEFORE = True  # Stands for the digest of the entry before, in the same file.
_MARKS = {64: None, 16: False}  # Each for as many hex digits as its key says, of the bytes.
_DIGITS = re.compile("[0-9a-f]*")


def told(entries: Iterable[dict[str, Any]]) -> tuple[dict[str, Any], bytes]:
    """The entries as lists of values behind the number of their keys; and bytes: of each entry its
    own digest, and what the marks among its values stand for, in order."""
    keys: dict[tuple[str, ...], int] = {}
    lists, digits, before = list[list[Any]](), list[str](), ""
    for body in entries:
        own = chain.digest_of_body(body)
        digits.append(own)
        values: list[Any] = [keys.setdefault(tuple(body), len(keys))]
        for name, value in body.items():
            if name == "prev" and value == before:
                value = _BEFORE
            elif isinstance(value, str) and len(value) in _MARKS and _DIGITS.fullmatch(value):
                digits.append(value)
                value = _MARKS[len(value)]
            values.append(value)
        lists.append(values)
        before = own
    told = {"keys": [list(names) for names in keys], "entries": lists}
    return told, bytes.fromhex("".join(digits))
