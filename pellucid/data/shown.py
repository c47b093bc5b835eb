"""What the first records of a file hold: which keys have texts, and what else there is."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pellucid.data import chats, formats, packings, tables
from pellucid.data.about import has, keys_of

_ROWS = 200  # Kept.
_RECORDS = 1000  # Looked at, where a sample has so many.
_DEEPEST = 3  # Objects in objects.
_SHORT = 64  # Characters: what is longer is a text.
# A text of these alone says what a record is called, or when it is of: a number, a date, a time, a
# UUID or a digest, a truth, an address.
_NO_TEXT = re.compile(
    r"\s*(?:[+-]?[\d.,:/ _-]*\d ?%?|[+-]?[\d.]+e[+-]?\d+"
    r"|\d{4}-\d\d-\d\d[T ][\d:.]+ ?(?:Z|[+-][\d:]+)?"
    r"|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?=\S*\d)[0-9a-f]{16,}|[a-z]{0,3}\d+"
    r"|true|false|null|none|nan|[a-z]+://\S+)\s*",
    re.IGNORECASE,
)


@dataclass
class Inside:
    """What the lists under one key hold."""

    objects: int = 0  # In all lists.
    strings: int = 0
    words: Counter[str] = field(default_factory=Counter[str])  # Objects with a text, by its key …
    sizes: Counter[str] = field(default_factory=Counter[str])  # … and the characters of these.
    keys: dict[str, None] = field(default_factory=dict[str, None])  # Of the objects, in order.


@dataclass
class Keys:
    """By key, "data.text" for a nested one: what the first records have there."""

    records: int = 0  # Of the first, those that have fields.
    counts: Counter[str] = field(default_factory=Counter[str])  # Records with a text or a chat.
    blank: set[str] = field(default_factory=set[str])  # Keys with an empty one somewhere.
    fields: dict[str, None] = field(default_factory=dict[str, None])  # All that are no objects'.
    absent: dict[str, str] = field(default_factory=dict[str, str])
    # ^ Of the source's other keys those that no record has, by their setting.
    words: Counter[str] = field(default_factory=Counter[str])  # Of `counts`, more than a number.
    sizes: Counter[str] = field(default_factory=Counter[str])  # Characters of these.
    unread: Counter[str] = field(default_factory=Counter[str])  # Chats of which words are lost.
    trees: Counter[str] = field(default_factory=Counter[str])  # Records with a tree of messages.
    lists: dict[str, Inside] = field(default_factory=dict[str, Inside])
    bare: list[Any] = field(default_factory=list[Any])  # Records without fields.
    rows: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])  # The first with them.

    def texts(self) -> list[str]:
        """The keys whose values are texts, neither numbers nor dates nor names of records; those
        of most records first."""
        ordered = (key for key, _ in self.counts.most_common())
        return [key for key in ordered if 2 * self.words[key] > self.counts[key]]

    def longest(self) -> str:
        """Of these the key whose texts are the longest, of those that most records have if any
        is; "" where there is none."""
        texts = self.texts()
        most = [key for key in texts if 2 * self.counts[key] > self.records]
        return max(most or texts, key=lambda key: self.sizes[key], default="")


def found(path: Path, how: formats.How) -> Keys:
    """The keys of the first records. Raises SourceUnreadable."""
    there = Keys()
    there.absent = {f"{name}_key": key for name, key in keys_of(how.source).items()}
    for value in _first(path, how):
        if isinstance(value.fields, dict):
            _record(value.fields, there)
        elif not value.dropped:
            there.bare.append(value.fields)
    return there


def _first(path: Path, how: formats.How) -> Iterator[tables.Value]:
    """The first records, with all their fields. Raises SourceUnreadable."""
    sample = formats.sample_of(how.source.format)
    every = how.source.model_copy(update={"text_key": ""})
    how = how._replace(source=every, sample=sample)
    with contextlib.suppress(packings.SampleFull):
        for value in itertools.islice(tables.VALUES[how.source.format](path, how), _RECORDS):
            sample.require_room()
            if value.number == 0:
                return
            yield value
            sample.take(value.size)


def is_text(text: str) -> bool:
    """Whether a value is more than a number, a date or the name of a record."""
    return bool(text.strip()) and (len(text) > _SHORT or not _NO_TEXT.fullmatch(text))


def _record(fields: dict[str, Any], there: Keys) -> None:
    there.records += 1
    if len(there.rows) < _ROWS:
        there.rows.append(fields)
    there.absent = {name: key for name, key in there.absent.items() if not has(fields, key)}
    for key, value in _flat(fields, "", 1):
        there.fields[key] = None
        there.trees[key] += bool(_tree_text(value))
        if isinstance(value, list) and value:
            _list(value, there.lists.setdefault(key, Inside()))
        chat = chats.Chat(value) if isinstance(value, str) else chats.read(value)
        if chat is None:
            continue
        there.unread[key] += chat.unread
        if not chat.text.strip():
            there.blank.add(key)
            continue
        there.counts[key] += 1
        if is_text(chat.text):
            there.words[key] += 1
            there.sizes[key] += len(chat.text)


def _list(values: list[Any], inside: Inside) -> None:
    for value in values:
        inside.strings += isinstance(value, str) and is_text(value)
        if not isinstance(value, dict):
            continue
        inside.objects += 1
        for key, inner in _flat(value, "", 1):
            inside.keys[key] = None
            text = chats.parts(inner) if isinstance(inner, list) else inner
            if isinstance(text, str) and is_text(text):
                inside.words[key] += 1
                inside.sizes[key] += len(text)


def _tree_text(value: Any) -> str:
    """What the messages of a tree say; "" of anything else."""
    if not chats.is_tree(value):
        return ""
    return chats.in_full(value, chats.TREE_ROLE, chats.TREE_CONTENTS)


def _flat(value: dict[str, Any], prefix: str, level: int) -> Iterator[tuple[str, Any]]:
    """The dotted keys of an object that are no object's, and what stands there."""
    for key, inner in value.items():
        if isinstance(inner, dict) and level < _DEEPEST and not chats.is_tree(inner):
            yield from _flat(inner, f"{prefix}{key}.", level + 1)
        else:
            yield prefix + key, inner
