"""Where the texts of records stand: the error of a file that has none under its source's key, with
the key to name instead, or the command that makes a file with one."""

from __future__ import annotations

import csv
import difflib
import io
import itertools
import json
import re
import shlex
from collections.abc import Iterable
from pathlib import Path

from pellucid.data import chats, formats, joining
from pellucid.data.shown import Inside, Keys, found, is_text
from pellucid.data.tables import VALUES, columns
from pellucid.errors import FieldMissing, TextKeyMissing

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
# Keys whose texts belong together, a question's before its answer's.
_ASKED = ("system", "instruction", "context", "input", "prompt", "question", "query")
_ANSWERED = ("completion", "output", "response", "answer")
_SPEAKERS = ("role", "from", "author", "speaker", "sender", "user", "name")  # Of a message.
_TOLD = 8
_TREE = '"{key}" holds the messages of a conversation as a tree, as ChatGPT exports them.'
_ROWS = 1000  # Of a table, looked at for the column of the texts.
_NAME, _WORDS = 64, 6  # Characters and words: no column's name has more.
_LETTER, _YEAR = re.compile(r"[^\W\d_]"), re.compile(r"(?:1[89]|20)\d\d")


def missing(path: Path, how: formats.How) -> TextKeyMissing | FieldMissing | None:
    """The error of a file none of whose first records has a text where the source looks for it, or
    a field that the source names."""
    there, key = found(path, how), how.source.text_key
    if there.records and there.absent:
        return _field_missing(path, how, there)
    if there.counts[key] or key in there.blank or not (there.records or there.bare):
        return None
    near = "" if key == _DEFAULT else _near(key, there.texts())
    told, fixes = _told(path, how, there, near)
    return TextKeyMissing(
        source=how.source.name,
        path=path,
        records=f"{there.records or len(there.bare):,}",
        key=key,
        near=f" (did you mean {near}?)" if near else "",
        there=told,
        fix=fixes,
    )


def _told(path: Path, how: formats.How, there: Keys, near: str) -> tuple[str, str]:
    """What the records hold, and what can be done."""
    format = how.source.format
    if not there.records:
        return _bare(path, format, there)
    if format == "csv" and (without := _nameless(path, how)):
        return without
    texts, told, fixes = there.texts(), list[str](), list[str]()
    counts = ", ".join(f"{key} ({there.counts[key]:,})" for key in texts[:_TOLD])
    told.append(
        f"The keys that hold texts or chats, and in how many records: {counts}."
        if texts
        else f"No key holds a text or a chat; the keys are {', '.join([*there.fields][:_TOLD])}."
    )
    if trees := [key for key, count in there.trees.items() if count]:
        return " ".join([*told, _TREE.format(key=trees[0])]), _of_tree(path, format, trees[0])
    if name := near or there.longest():
        fixes.append(f"Name one: --set {setting(how.source.name, 'text_key', name)}")
    for key, inside in there.lists.items():
        if not there.counts[key] and (made := _of_list(path, format, key, inside)):
            told.append(made[0])
            fixes.append(made[1])
    fixes += _joining(path, format, there)
    if not fixes:
        fixes.append("Make a file whose records have a text, and give that one")
    fixes = [fixes[0], *(one[:1].lower() + one[1:] for one in fixes[1:])]
    return " ".join(told), "; or ".join(fixes)


def _of_tree(path: Path, format: str, key: str) -> str:
    """How the messages of a tree become one text."""
    command = joining.command(
        path, "spoken", format, key, chats.TREE_ROLE, list(chats.TREE_CONTENTS)
    )
    return f"Make one text of each conversation, and give the file that this writes: {command}"


def setting(source: str, name: str, key: str) -> str:
    """The setting of a source that names a key, as a word for a shell."""
    plain = re.fullmatch(r"[\w.*-]*", key)
    value = key if plain else json.dumps(key, ensure_ascii=False)
    return shlex.quote(f"data.sources.{source}.{name}={value}")


def _near(key: str, known: Iterable[str]) -> str:
    """The key that is most like one that is missing; "" where none is."""
    return next(iter(difflib.get_close_matches(key, known, n=1)), "")


def _field_missing(path: Path, how: formats.How, there: Keys) -> FieldMissing:
    field, key = next(iter(there.absent.items()))
    near, source = _near(key, there.fields), how.source.name
    return FieldMissing(
        source=source,
        path=path,
        records=f"{there.records:,}",
        key=key,
        near=f" (did you mean {near}?)" if near else "",
        found=", ".join(sorted(there.fields)[:_TOLD]) or "none",
        field=field,
        choice=setting(source, field, near or "FIELD"),
        none=setting(source, field, ""),
    )


def _bare(path: Path, format: str, there: Keys) -> tuple[str, str]:
    """Of a file whose records are no objects."""
    texts = all(isinstance(one, str) for one in there.bare)
    what = "The elements of the array" if format == "json" else "The records"
    told = f"{what} are {'strings' if texts else 'values'}, not objects with keys."
    if any(map(joining.whole, there.bare)):
        command = joining.command(path, "join", format, [""])
        return told, f"Make records of them, and give the file that this writes: {command}"
    return told, "Make a file whose records are objects with a text, and give that one"


def _of_list(path: Path, format: str, key: str, inside: Inside) -> tuple[str, str] | None:
    """What lists under a key are, and how they become texts; None where they hold none."""
    if inside.strings > inside.objects:
        told = f'"{key}" is a list of strings.'
        command = joining.command(path, "join", format, [key])
    else:
        role, contents = speaker_and_texts(inside)
        if not contents:
            return None
        told = (
            f'"{key}" is a list of objects with the keys {", ".join(inside.keys)}: a chat has '
            "{role, content} or {from, value}."
        )
        command = joining.command(path, "spoken", format, key, role, contents)
    return told, f"Make one text of each list, and give the file that this writes: {command}"


def speaker_and_texts(inside: Inside) -> tuple[str, list[str]]:
    """Of messages the key that says who speaks, "" where none does, and the keys of the texts, the
    one with the longest first."""
    names = {name: key for key in reversed(inside.words) for name in key.split(".")}
    role = next((names[name] for name in _SPEAKERS if name in names), "")
    sizes = {key: size for key, size in inside.sizes.most_common() if key != role}
    longest = max(sizes.values(), default=0)
    mean = {key: size / inside.words[key] for key, size in sizes.items()}
    most = max(mean.values(), default=0)
    return role, [key for key in sizes if 20 * sizes[key] >= longest and 4 * mean[key] >= most]


def _together(there: Keys) -> list[str]:
    """The keys whose texts belong together, in order: a question's before its answer's, else as the
    records have them; none where most records have one text at most."""
    texts = there.texts()
    most = [key for key in there.fields if key in texts and 2 * there.counts[key] > there.records]
    known = [key for key in (*_ASKED, *_ANSWERED) if key in texts]
    if all(any(key in names for key in most) for names in (_ASKED, _ANSWERED)):
        return known
    return most if len(most) > 1 else []


def _joining(path: Path, format: str, there: Keys) -> list[str]:
    """The line for a shell that makes one text of several, as the end of a message."""
    together = _together(there)
    if not together:
        return []
    others = ", ".join(key for key in there.texts() if key not in together)
    rest = f"leave out {others}: give" if others else "give"
    command = joining.command(path, "join", format, together)
    names = ", ".join(together)
    return [f"Make one text of {names}, and {rest} the file that this writes: {command}"]


def _nameless(path: Path, how: formats.How) -> tuple[str, str] | None:
    """Of a table whose first row is no names: what it is, and the command that puts names there."""
    delimiter, names = columns(path, how)
    numbered = [*map(str, range(len(names)))], [*map(str, range(1, len(names) + 1))]
    if names in numbered or all(map(_is_name, names)):
        return None
    sizes = [len(name) if is_text(name) else 0 for name in names]
    for value in itertools.islice(VALUES["csv"](path, how), _ROWS):
        for place, text in enumerate((value.fields or {}).values()):
            sizes[place] += len(text) if is_text(text) else 0
    longest = sizes.index(max(sizes))
    given = ["text" if place == longest else f"column{place + 1}" for place in range(len(names))]
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator="").writerow(given)
    first = " ".join(", ".join(names).split())
    shown = first if len(first) <= _NAME else f"{first[:_NAME]} …"
    command = joining.command(path, "named", out.getvalue())
    told = f"The file seems to have no line of names: its first row is {shown}."
    return told, f"Put names before it, and give the file that this writes: {command}"


def _is_name(word: str) -> bool:
    """Whether a word may be a column's name: it is short, and no number or date but a year."""
    short = len(word) <= _NAME and len(word.split()) <= _WORDS
    return short and (not word or bool(_LETTER.search(word)) or bool(_YEAR.fullmatch(word)))


def usual_of(there: Keys) -> str:
    """The key that most probably holds the texts, by its name; "" where no name tells."""
    for name in USUAL:
        for key in sorted(there.counts, key=lambda key: (key.count("."), key)):
            if key.rsplit(".", 1)[-1] == name and 2 * there.counts[key] > there.records:
                return key
    return ""
