"""The site of a release and the pages of its maker: what they are made from, changes to them, and
what reads them."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

from fuzz.mutations import TEXTS, Choices, change_value, dumped
from pellucid.site import check, pages
from pellucid.site.data import Site
from pellucid.site.pack import unpacked
from pellucid.site.server import Refused
from pellucid.site.view import View
from pellucid.store import layout

_TAIL = b'"]);\n'
_DATA = f"{layout.SITE}/data/"
_NAMES = 100  # Of data files that are asked for at most.
_MOST = 1 << 24  # Bytes of a data file's pieces.
_DOT = base64.b64decode("R0lGODlhAQABAIAAAP8AAAAAACH5BAAAAAAALAAAAAABAAEAAAICRAEAOw==")
_HOME = """---
title: The makers
permalink: /
excerpt: Who we are.
---
# Home

Some *words*, **more**, ~~fewer~~, `code` and <b>markup</b>, with a [page](team/first.md#goal), the
[recipe](../recipe.toml "its title"), <https://example.org/?a=1&b=2> and [a reference][there].

![One dot](dots/dot.gif "A dot")

> 3. three
>    - four

| name | bytes |
|------|------:|
| a    |     1 |

[there]: ../site/step.html#3
"""
_FIRST = """---
title: "First: a page"
redirect_from:
  - /old/first/
  - /older.html
author_profile: true
---
Goal
====

```python
print("<b>")
```
"""
PAGES = {"home.md": _HOME.encode(), "team/first.md": _FIRST.encode(), "dots/dot.gif": _DOT}

_FIELDS = [
    "title: x",
    "title: &a x",
    "title: *a",
    "title: !!python/object:os.system x",
    "title: !!binary AAAA",
    "title: 2026-11-30",
    "title: 1_000",
    "title: 0x10",
    "title: ~",
    "title: |\n  a\n  b",
    'title: "\\u202e\\ud800\\0"',
    "<<: {title: x}",
    "? [a, b]\n: c",
    "? title\n: x",
    "permalink: /a/../b/",
    "permalink: //x/",
    "permalink: /x.html",
    "permalink: /index/",
    "redirect_from: /home/",
    "redirect_from: [/a/, [/b/]]",
    "redirect_from: [" + "/a/," * 900 + "]",
    "redirect_from: {/a/: /b/}",
    "author_profile: yes",
    "author_profile: 'true'",
    "x" * 2000 + ": 1",
    "[" * 1000,
    "- " * 1000,
    "{a: " * 500,
    "%YAML 9.9\n---",
    "a: b: c",
    "\tx: 1",
    "...",
    "---",
]
_MARKDOWN = [
    "> ",
    "- ",
    "  - x\n",
    "1. ",
    "999999999999. x\n",
    "*",
    "**_*",
    "_a ",
    "~~",
    "`",
    "``` ",
    "[",
    "![",
    "](",
    "[a](",
    "[a](<b>)",
    "![a](dots/dot.gif)",
    "![](dots/dot.gif)",
    "[x](javascript:x)",
    "[x](data:text/html,x)",
    "[x](../../../etc/passwd)",
    "[x](../site/pages/old/first.html)",
    "[x](%2e%2e/x)",
    "[x](//evil.example)",
    "[a]: b\n",
    "[a][a]",
    "<a href='x'>",
    "<!--",
    "<script>",
    "<https://x>",
    "&#0;",
    "&amp",
    "&#x110000;",
    "\\",
    "|",
    "|a|\n|-|\n",
    "|\n|-:|\n",
    "# ",
    "# a\n",
    "###### ",
    "\n---\n",
    "***\n",
    "    x\n",
    "\t",
    "\u2028",
    "\u202e",
    "\ufeff",
    "x" * 1000,
    "\n",
]


def write_pages(folder: Path) -> None:
    """Pages of a maker, with everything that a page may have."""
    for name, content in PAGES.items():
        path = folder / layout.PAGES / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


# ---- readers -----------------------------------------------------------------------------------


def paged(folder: Path) -> None:
    """As publish, verify and the overview read pages/."""
    pages.told(folder)
    list(check.check_pages(folder))
    list(pages.rendered(folder))


def sited(folder: Path) -> bool:
    """Whether a changed site is called sound, in a manifest that fits it."""
    return not [
        *check.check(folder),
        *check.check(folder, sound=False),
        *check.check_pages(folder),
    ]


def viewed(folder: Path) -> None:
    """Every kind of data that the server of `view` makes of a run that nobody verified."""
    view = View(folder)
    names = itertools.islice(Site(folder).names(), _NAMES)
    kinds = {name.partition("/")[0]: name for name in names}
    for path in ["live", "pages/index.html", *(f"data/{name}.js" for name in kinds.values())]:
        with contextlib.suppress(Refused):
            view.answer(f"/site/{path}").body.close()


def says_the_same(folder: Path, path: str, content: bytes, original: bytes) -> bool:
    """Whether a data file holds the pieces of another: those are equal for a check."""
    if not path.startswith(_DATA):
        return False
    name = path.removeprefix(_DATA).removesuffix(".js")
    behind = Site(folder).dictionary(name)
    pieces = [unpacked(one, name, _MOST, path, behind) for one in (content, original)]
    return pieces[0] == pieces[1] or (name == "baselines" and _other_library(*pieces))


def _other_library(pieces: list[bytes], originals: list[bytes]) -> bool:
    """Whether sizes after packing differ alone, and by no more than between libraries."""
    held, original = json.loads(pieces[0]), json.loads(originals[0])
    sizes = [(held.pop(name), original.pop(name)) for name in ("gzip", "xz")]
    return held == original and all(abs(a - b) <= max(16, b // 50) for a, b in sizes)


# ---- changes -----------------------------------------------------------------------------------


def data(content: bytes, choices: Choices) -> bytes:
    """A data file with another piece, in its own form most often."""
    head, quoted, rest = content.partition(b'["')
    if not head.startswith(b"pellucid("):
        return content + b"\n"  # A script of the shell.
    pieces = rest.removesuffix(_TAIL).split(b'","')
    at = choices.below(len(pieces))
    how = choices.below(8)
    if how == 0:
        del pieces[at]
    elif how == 1:
        pieces[at:at] = [pieces[at]] * choices.of([1, 2, 5000])
    elif how == 2:
        other = choices.below(len(pieces))
        pieces[at], pieces[other] = pieces[other], pieces[at]
    elif how == 3:
        name = choices.of([*TEXTS, "overview", "steps/00001"]).encode("ascii", "replace")
        head = b'pellucid("' + name + b'",'
    elif how == 4:
        pieces[at] = choices.of(_STRANGE)
    elif how == 5:
        pieces[at] = _bomb()
    else:
        pieces[at] = _other(pieces[at], choices)
    return head + quoted + b'","'.join(pieces) + _TAIL


_STRANGE = [
    b'["AwA="],',
    b'"+alert(1)+"',
    b"`",
    b"\\",
    b"\xe2\x80\xa8",
    b'"","",',
    b"/*",
    b"AwA=" * 5000,
    b"Aw A=",
    b"_-",
]


def _other(text: bytes, choices: Choices) -> bytes:
    """A piece that says something else, packed as it was if it does not hang on a dictionary."""
    try:
        piece = zlib.decompress(base64.b64decode(text), -15)
        changed = dumped(change_value(json.loads(piece), choices))
    except (ValueError, zlib.error):
        piece = bytes(choices.of([0, 1, 7, 100_000]))
        changed = choices.of([piece, piece + b"x", b"\xff" + piece])
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return base64.b64encode(packer.compress(changed) + packer.flush())


@cache
def _bomb() -> bytes:
    """Half a gigabyte of zeros, as the end of a data file's last piece."""
    packer, zeros = zlib.compressobj(1, zlib.DEFLATED, -15), bytes(1 << 20)
    content = b"".join(packer.compress(zeros) for _ in range(512)) + packer.flush()
    return base64.b64encode(content)


def page(content: bytes, choices: Choices) -> bytes:
    """A page with another front matter or more Markdown, which may be a lot of it."""
    _, front, text = content.decode().split("---\n", 2)
    for _ in range(1 + choices.below(3)):
        if choices.below(2):
            lines = front.splitlines()
            at = choices.below(len(lines))
            lines[at : at + choices.below(2)] = [choices.of(_FIELDS)]
            front = "\n".join(lines) + "\n"
        else:
            some = "".join(choices.of(_MARKDOWN) for _ in range(1 + choices.below(4)))
            at = choices.below(len(text) + 1)
            text = text[:at] + some * choices.of([1, 1, 3, 30, 2000, 40_000]) + text[at:]
    return f"---\n{front}---\n{text}".encode()[: choices.of([pages.PAGE, pages.PAGE + 1])]


CHANGES: dict[str, list[Callable[[bytes, Choices], bytes]]] = {
    ".js": [data] * 3,
    ".md": [page] * 4,
}
