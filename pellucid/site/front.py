"""The front matter of a page: a few YAML fields between two lines of ---.

Of YAML only plain values are taken: an anchor lets a few bytes stand for many, a tag names a type
to make, and of a key that stands twice readers take different values."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import yaml

from pellucid.errors import PageInvalid

MOST = 4096  # Bytes.
FIELDS = ("title", "permalink", "redirect_from", "excerpt", "author_profile")
HOME = "index"
_LINE = "---"
_TITLE, _EXCERPT, _REDIRECTS = 200, 1000, 32
_NAME = "[a-z0-9][a-z0-9_-]{0,63}"  # As store/layout.py has it.
_ADDRESS = re.compile(rf"/|/?((?:{_NAME}/)?{_NAME})(?:/|[.]html)?")
_TAG = "tag:yaml.org,2002:"
_BOOLEANS = {"true": True, "false": False}


@dataclass(frozen=True)
class Front:
    """What a page says of itself. Addresses are names: about, projects/first; index for "/"."""

    title: str = ""
    permalink: str = ""
    redirect_from: tuple[str, ...] = ()
    excerpt: str = ""
    author_profile: bool = False


def split(text: str, path: Path) -> tuple[Front, str]:
    """The front matter of a page, and its Markdown. Raises PageInvalid."""
    lines = text.split("\n")
    ends = [number for number, line in enumerate(lines) if line.rstrip() == _LINE]
    if len(ends) < 2 or ends[0] != 0:
        raise PageInvalid(
            path=path,
            detail="does not begin with front matter",
            fix="Put the three lines `---`, `title: NAME` and `---` at its top",
        )
    source = "\n".join(lines[1 : ends[1]])
    if len(source.encode("utf-8")) > MOST:
        raise PageInvalid(
            path=path,
            detail=f"has front matter of more than {MOST:,} bytes",
            fix="Move the text below the second line of ---",
        )
    return _front(source, path), "\n".join(lines[ends[1] + 1 :])


def _front(source: str, path: Path) -> Front:
    front, known = Front(), set[str]()
    for key, value in _node(source, path).value:
        name = str(key.value)[:60]
        if name not in FIELDS:
            _wrong(path, f"unknown key {name!r}", f"Remove it, or use one of {', '.join(FIELDS)}")
        if name in known:
            _wrong(path, f"the key {name} stands twice", "Remove one of the two lines")
        known.add(name)
        front = replace(front, **{name: _READERS[name](value, name, path)})
    if not front.title:
        _wrong(path, "has no title", "Add a line `title: NAME`")
    return front


def _node(source: str, path: Path) -> yaml.MappingNode:
    """The YAML as a mapping of plain values. Raises PageInvalid."""
    depth = 0
    try:
        for event in yaml.parse(source, yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                _wrong(path, "uses an anchor or an alias", "Write the value out")
            if getattr(event, "tag", None):
                tag = str(event.tag)[:60]  # pyright: ignore
                _wrong(path, f"uses the tag {tag!r}", "Remove it")
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > 2:
                _wrong(path, "nests lists or mappings", "Write one value a key")
        node = yaml.compose(source, yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 2}: " if mark else ""
        detail = getattr(error, "problem", None) or "is not YAML"
        _wrong(path, f"{place}{detail}", "Correct it, or put the value in quotes")
    if not isinstance(node, yaml.MappingNode):
        _wrong(path, "has no fields", "Write lines like `title: NAME`")
    return node


def _wrong(path: Path, detail: str, fix: str) -> NoReturn:
    raise PageInvalid(path=path, detail=f"front matter: {detail}", fix=fix)


def _string(node: yaml.Node, name: str, path: Path) -> str:
    """A text in one line."""
    if not (isinstance(node, yaml.ScalarNode) and node.tag == f"{_TAG}str"):
        _wrong(path, f"{name} is {_kind(node)}, not a text", "Put the value in quotes")
    most = _TITLE if name == "title" else _EXCERPT
    value = " ".join(node.value.split())
    if not 0 < len(value) <= most:
        detail = f"{name} has {len(value):,} characters, not 1 to {most:,}"
        _wrong(path, detail, "Change the value")
    return value


def _kind(node: yaml.Node) -> str:
    return {
        "bool": "a truth value",
        "int": "a number",
        "float": "a number",
        "null": "empty",
        "timestamp": "a date",
        "seq": "a list",
        "map": "a mapping",
    }.get(node.tag.removeprefix(_TAG), "no text")


def _address(node: yaml.Node, name: str, path: Path) -> str:
    """The name of the file that an address like /about/ or /about.html stands for."""
    address = _string(node, name, path)
    match = _ADDRESS.fullmatch(address)
    if match is None:
        _wrong(
            path,
            f"{name} {address[:80]!r} is no address of a page",
            "Use lowercase ASCII letters, digits, - and _, in at most one folder: /NAME/",
        )
    return match[1] or HOME


def _addresses(node: yaml.Node, name: str, path: Path) -> tuple[str, ...]:
    """An address, or a list of addresses: /about/ and /about.html are the same."""
    nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
    names = tuple(dict.fromkeys(_address(inner, name, path) for inner in nodes))
    if len(names) > _REDIRECTS:
        _wrong(path, f"{name} has more than {_REDIRECTS} addresses", "Remove some")
    return names


def _boolean(node: yaml.Node, name: str, path: Path) -> bool:
    value = _BOOLEANS.get(node.value) if isinstance(node, yaml.ScalarNode) else None
    if value is None or node.tag != f"{_TAG}bool":
        _wrong(path, f"{name} is neither true nor false", "Write true or false, without quotes")
    return value


_READERS: dict[str, Any] = {
    "title": _string,
    "permalink": _address,
    "redirect_from": _addresses,
    "excerpt": _string,
    "author_profile": _boolean,
}
