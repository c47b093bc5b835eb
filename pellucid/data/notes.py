"""What `new` says of its sources: what is left out, which fields stay out, and how to name them."""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path
from typing import Any

from pellucid.data import joining, keys, recognise, shown, sources
from pellucid.data.about import fits, is_unknown, keys_of, under
from pellucid.data.guess import Guess, look
from pellucid.data.tables import VALUES
from pellucid.recipe import Recipe

_LOOKED_AT = 200  # Files of a folder of records whose keys are looked at.
# How fields are called that say what a text is, in the order in which they are tried.
_CALLED = {
    "licence": ("licence", "license", "spdx", "licence_name", "license_name", "rights"),
    "origin": ("origin", "url", "uri", "source_url", "link", "permalink"),
    "date": ("date", "created", "created_at", "published", "published_at", "timestamp", "ts"),
    "id": ("id", "uuid", "guid", "_id", "doc_id", "document_id", "docid"),
}
_FORM = {"date": re.compile(r"\d{4}.*|\d{1,2}[./-]\d.*", re.DOTALL)}


def notes_of(guesses: list[Guess], recipe: Recipe, folder: Path) -> list[str]:
    """All of it, a line for each."""
    readers = [entry for entry in sources.readers(recipe, folder) if entry.source.format in VALUES]
    firsts = [(reader, place) for reader in readers if (place := _first(reader))]
    records = [(reader, place, shown.found(place, reader.how)) for reader, place in firsts]
    described = {reader.source.name: _described(reader, there) for reader, _, there in records}
    return [
        *(
            f'the texts of {entry.name} are what stands under "{entry.text_key}" (text_key); '
            "other fields stay out"
            for entry in guesses
            if entry.text_key
        ),
        *_left_out(guesses),
        *_keyless(readers),
        *(note for entry in records if (note := _unread(*entry))),
        *(_offered(name, fields) for name, fields in described.items() if fields),
        *_unlicensed(
            recipe, folder, [name for name, fields in described.items() if "licence" in fields]
        ),
    ]


def _left_out(found: list[Guess]) -> list[str]:
    """What of the folders is left out for its format, in a line that
    says what to do with the first."""
    folders = {
        one.path: one.name for one in found if one.format != "package" and Path(one.path).is_dir()
    }
    foreign = [one for path, name in folders.items() for one in look(Path(path), name)[1]]
    if not foreign:
        return []
    (kind, place), count = foreign[0], len(foreign)
    first = f"{place.name} ({recognise.KINDS[kind].words})"
    files_of = f"1 file, {first}, is" if count == 1 else f"{count} files, such as {first}, are"
    why = "pellucid cannot read the format"
    if kind in recognise.TABLES:
        why = "tables are not read in a folder of other files"
    elif kind in recognise.READ_AS:
        why = "the format differs from the ending"
    return [f"{files_of} left out: {why}. {recognise.fix(kind, place)}"]


def _keyless(readers: list[sources.Reader]) -> list[str]:
    """Of each folder of records the first files that have no text under its key, in a line."""
    notes: list[str] = []
    for reader in readers:
        if reader.alone:
            continue
        places = [
            place
            for place in itertools.islice(reader.places(), _LOOKED_AT)
            if not reader.strange(place)
        ]
        if without := [place for place in places if keys.missing(place, reader.how)]:
            name, key, count = without[0].name, reader.source.text_key, len(without)
            files_of = (
                f"1 file, {name}, has" if count == 1 else f"{count} files, such as {name}, have"
            )
            given = shlex.quote(f"{reader.source.format}:{without[0]}")
            notes.append(
                f'{files_of} no text under "{key}" (text_key), so these records are left out. '
                f"Make the file a source of its own, with its own key: --data {given}"
            )
    return notes


def _first(reader: sources.Reader) -> Path | None:
    """The first file that is of the source's format."""
    return next((place for place in reader.places() if not reader.strange(place)), None)


def _unread(reader: sources.Reader, place: Path, there: shown.Keys) -> str:
    """The chats of a source that lose words, and the command that keeps them; "" of none."""
    key = reader.source.text_key
    if not (count := there.unread[key]):
        return ""
    role, contents = keys.speaker_and_texts(there.lists[key])
    command = joining.command(place, "spoken", reader.source.format, key, role, contents)
    return (
        f"{count:,} of the first {there.records:,} chats of {reader.source.name} have "
        "messages whose text is under another key than content or value, and is lost. "
        "To keep it, give the file that "
        f"this writes: {command}"
    )


def _described(reader: sources.Reader, there: shown.Keys) -> dict[str, str]:
    """The fields of a source's records that look like what a source can name one for, and does
    not, by what they say."""
    rows = there.rows
    named = [key for row in rows for key in row if not isinstance(row[key], dict)]
    inner = [
        f"{key}.{one}"
        for row in rows
        for key in row
        if isinstance(row[key], dict)
        for one in row[key]
    ]
    known = dict.fromkeys([*named, *inner])
    fields = {}
    for name, called in _CALLED.items():
        if name in keys_of(reader.source):
            continue
        ordered = sorted(
            (key for key in known if _last(key) in called),
            key=lambda key, called=called: (called.index(_last(key)), key.count(".")),
        )
        for key in ordered:
            if key != reader.source.text_key and _says([under(row, key) for row in rows], name):
                fields[name] = key
                break
    return fields


def _last(key: str) -> str:
    return key.rpartition(".")[2].lower()


def _says(values: list[Any], name: str) -> bool:
    """Whether most of the values fit the field of that name. No two ids may be equal."""
    texts = [str(value) if type(value) is int else value for value in values]
    form = _FORM.get(name)
    fit = [
        value
        for value in texts
        if isinstance(value, str) and fits(value, name) and (not form or form.fullmatch(value))
    ]
    return 2 * len(fit) > len(values) and (name != "id" or len(set(fit)) == len(fit))


def _offered(source: str, fields: dict[str, str]) -> str:
    words = ", ".join(f"{name} ({key})" for name, key in fields.items())
    settings = " ".join(
        f"--set {keys.setting(source, f'{name}_key', key)}" for name, key in fields.items()
    )
    return (
        f"the records of {source} have fields that look like their {words}. To take them: "
        f"{settings}"
    )


def _unlicensed(recipe: Recipe, folder: Path, except_for: list[str]) -> list[str]:
    """How to state a licence, before it is part of what is trained; not of sources whose records
    seem to state their own."""
    names = [
        reader.source.name
        for reader in sources.readers(recipe, folder)
        if is_unknown(reader.licence)
        and not reader.source.licence_key
        and reader.source.name not in except_for
    ]
    if not names:
        return []
    setting = f"data.sources.{names[0]}.licence=CC-BY-4.0"
    return [
        f"the licence of {', '.join(names)} is unknown: state it before training, as in "
        f"--set {setting}"
    ]
