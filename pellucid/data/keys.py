"""Where the texts of records stand: the keys that are there, and how many of
the first records have each."""

from __future__ import annotations

import difflib
import itertools
import json
import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pellucid.data import formats, recognise, tables
from pellucid.data.about import has, keys_of
from pellucid.errors import FieldMissing, TextKeyMissing
from pellucid.recipe import Source

USUAL = (
    "text",
    "content",
    "body",
    "story",
    "article",
    "document",
    "messages",
    "conversations",
    "conversation",
)
_DEFAULT = "text"  # The key of a source that names none: nobody's slip.
_RECORDS = 1000  # Looked at.
_BYTES = 16 << 20
# Keys whose texts belong together, a question's before its answer's.
_ASKED = ("system", "instruction", "context", "input", "prompt", "question", "query")
_ANSWERED = ("completion", "output", "response", "answer")
_DEEPEST = 3  # Objects in objects.
_TOLD = 8


class Keys(NamedTuple):
    records: int  # Of the first, those that have fields.
    # By key, "data.text" for a nested one: the records with a text or a chat there.
    counts: Counter[str]
    blank: frozenset[str]  # Keys that have an empty one somewhere, which `counts` leaves out.
    fields: frozenset[str]  # Every dotted key that is no object's.
    absent: dict[str, str]  # Of the source's other keys those that no record has, by their setting.


def found(path: Path, how: formats.How) -> Keys:
    """The keys of the first records. Raises SourceUnreadable."""
    records, size, counts, blank, fields = 0, 0, Counter[str](), set[str](), set[str]()
    absent = {f"{name}_key": key for name, key in keys_of(how.source).items()}
    everything = how._replace(source=how.source.model_copy(update={"text_key": ""}))
    for value in itertools.islice(tables.VALUES[how.source.format](path, everything), _RECORDS):
        size += value.size
        if value.number == 0 or size > _BYTES:
            break
        if isinstance(value.fields, dict):
            records += 1
            absent = {name: key for name, key in absent.items() if not has(value.fields, key)}
            fields.update(_fields(value.fields, "", 1))
            texts = dict(_texts(value.fields, "", 1))
            counts.update(key for key, text in texts.items() if text.strip())
            blank.update(key for key, text in texts.items() if not text.strip())
    return Keys(records, counts, frozenset(blank), frozenset(fields), absent)


def _fields(value: dict[str, Any], prefix: str, level: int) -> Iterator[str]:
    for key, inner in value.items():
        if isinstance(inner, dict) and level < _DEEPEST:
            yield from _fields(inner, f"{prefix}{key}.", level + 1)
        else:
            yield prefix + key


def _texts(value: dict[str, Any], prefix: str, level: int) -> Iterator[tuple[str, str]]:
    """The dotted keys of an object's texts and chats, and what stands there."""
    for key, inner in value.items():
        if (text := inner if isinstance(inner, str) else tables.chat(inner)) is not None:
            yield prefix + key, text
        elif isinstance(inner, dict) and level < _DEEPEST:
            yield from _texts(inner, f"{prefix}{key}.", level + 1)


def missing(path: Path, how: formats.How) -> TextKeyMissing | FieldMissing | None:
    """The error of a file none of whose first records has a text where the source looks for it, or
    a field that the source names."""
    there, key = found(path, how), how.source.text_key
    if there.records and there.absent:
        return _field_missing(path, how, there)
    if not there.records or there.counts[key] or key in there.blank:
        return None
    near = "" if key == _DEFAULT else _near(key, there.counts)
    usual = near or usual_of(there)
    told = [f"{key} ({count:,})" for key, count in there.counts.most_common(_TOLD)]
    return TextKeyMissing(
        source=how.source.name,
        path=path,
        records=f"{there.records:,}",
        key=key,
        near=f" (did you mean {near}?)" if near else "",
        found=", ".join(told) if told else "none",
        join=_joining(path, how.source.format, _together(there)),
        name=usual or (there.counts.most_common(1)[0][0] if told else "KEY"),
    )


def _near(key: str, known: Iterable[str]) -> str:
    """The key that is most like one that is missing; "" where none is."""
    return next(iter(difflib.get_close_matches(key, known, n=1)), "")


def _field_missing(path: Path, how: formats.How, there: Keys) -> FieldMissing:
    setting, key = next(iter(there.absent.items()))
    near = _near(key, there.fields)
    return FieldMissing(
        source=how.source.name,
        path=path,
        records=f"{there.records:,}",
        key=key,
        near=f" (did you mean {near}?)" if near else "",
        found=", ".join(sorted(there.fields)[:_TOLD]) or "none",
        setting=setting,
        name=near or "FIELD",
    )


def _together(there: Keys) -> list[str]:
    """The keys of a question and its answer, in that order, that most
    records have; none without both."""
    asked, answered = (
        [key for key in names if 2 * there.counts[key] > there.records]
        for names in (_ASKED, _ANSWERED)
    )
    return asked + answered if asked and answered else []


def _joining(path: Path, format: str, together: list[str]) -> str:
    """The end of a message with the line for a shell that calls `join`; ""
    where there is nothing to join."""
    if not together:
        return ""
    code = f"from pellucid.data.keys import join; join({str(path)!r}, {format!r}, {together!r})"
    target = shlex.quote(str(recognise.made(path, "jsonl")))
    command = f"{recognise.python(code)} > {target}"
    names = ", ".join(together)
    return f"; or make one text of {names}, and give the file that this writes: {command}"


def join(path: str, format: str, together: list[str]) -> None:
    """Print a file's records as JSON lines, each with one text of those under the keys `together`.

    Records that cannot be read are named on standard error. Raises SourceUnreadable.
    """
    source = Source.model_validate({"name": "join", "format": format, "text_key": ""})
    how = formats.How(source)
    for value in tables.VALUES[format](Path(path), how):
        if value.dropped:
            print(f"{path}:{value.number} is left out: {value.dropped}", file=sys.stderr)
            continue
        texts = (tables.text_of(value.fields, key) for key in together)
        print(json.dumps({"text": "\n\n".join(text for text in texts if text is not None)}))


def usual_of(there: Keys) -> str:
    """The key that most probably holds the texts, by its name; "" where no name tells."""
    for name in USUAL:
        for key in sorted(there.counts, key=lambda key: (key.count("."), key)):
            if key.rsplit(".", 1)[-1] == name and 2 * there.counts[key] > there.records:
                return key
    return ""
