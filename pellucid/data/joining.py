"""The commands that make one text of each record, where no single key has it."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pellucid.data import chats, formats, recognise, tables
from pellucid.data.about import under
from pellucid.recipe import Source


def command(path: Path, function: str, *arguments: object) -> str:
    """The line for a shell that calls a function of this file with the path and the arguments, and
    writes a new file beside the path."""
    words = ", ".join(repr(one) for one in (str(path), *arguments))
    code = f"from pellucid.data.joining import {function}; {function}({words})"
    ending = "csv" if function == "named" else "jsonl"
    return f"{recognise.python(code)} > {shlex.quote(str(recognise.made(path, ending)))}"


def join(path: str, format: str, together: list[str]) -> None:
    """Print a file's records as JSON lines, each with one text of those under the keys `together`;
    the key "" is the record itself.

    Records that cannot be read are named on standard error. Raises SourceUnreadable.
    """

    def joined(fields: Any) -> str:
        texts = (whole(fields if key == "" else under(fields, key)) for key in together)
        return "\n\n".join(text for text in texts if text)

    _print(path, format, joined)


def spoken(path: str, format: str, key: str, role: str, contents: list[str]) -> None:
    """Print a file's records as JSON lines, each with the messages under `key` as lines
    "role: content"; role and contents are keys of a message (chats.in_full).

    Records that cannot be read are named on standard error. Raises SourceUnreadable.
    """
    _print(path, format, lambda fields: chats.in_full(under(fields, key), role, contents))


def named(path: str, names: str) -> None:
    """Print a table with a line of names before it. Raises SourceUnreadable."""
    how = formats.How(Source.model_validate({"name": "named", "format": "csv"}))
    out = sys.stdout.buffer
    out.write(names.encode() + b"\n")
    for _, line in formats.lines(Path(path), how):
        out.write(line + b"\n")
    out.flush()


def whole(value: Any) -> str:
    """A value as one text: a text, a chat, or a list of texts; "" where it is none of them."""
    if isinstance(value, str):
        return value if value.strip() else ""
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        return "\n\n".join(value)
    return chats.in_full(value)


def _print(path: str, format: str, text_of: Callable[[Any], str]) -> None:
    for value in _values(path, format):
        if value.dropped:
            print(f"{path}:{value.number} is left out: {value.dropped}", file=sys.stderr)
        elif text := text_of(value.fields):
            print(json.dumps({"text": text}))
        else:
            print(f"{path}:{value.number} is left out: no text", file=sys.stderr)


def _values(path: str, format: str) -> Iterator[tables.Value]:
    source = Source.model_validate({"name": "join", "format": format, "text_key": ""})
    return tables.VALUES[format](Path(path), formats.How(source))
