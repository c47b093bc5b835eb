"""Settings, "key=value", put into the TOML of a recipe: what --set does."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import tomlkit

from pellucid.errors import CommandInvalid, RecipeInvalid
from pellucid.recipe import COMMAND_LINE, Fork, Source, parse

_LISTS = {  # Fields that are lists of strings: with --set, one needs no brackets and quotes.
    name
    for section in (Source, Fork)
    for name, field in section.model_fields.items()
    if field.annotation == tuple[str, ...]
}


def with_settings(
    content: bytes, settings: list[str], path: Path | str, verb: str = "run"
) -> bytes:
    """The TOML with each "key=value" put in, its comments kept, and the result validated; path and
    verb are named in errors, of what the settings bring in the command line.

    Sources and phases are addressed by their names: data.sources.books.weight=2,
    phase.decay.lr=1e-4. What `new` and `fork` write is right but for its
    settings, and may need them."""
    if not settings or verb == "run":
        parse(content, path)
    document = tomlkit.parse(content.decode("utf-8"))
    given = {
        key: _assign(document, key, value) for key, value in settings_of(settings, verb).items()
    }
    for key, table in given.items():
        _locate(table, key.rpartition(".")[2])
    result = tomlkit.dumps(document).encode("utf-8")
    if settings:
        parse(result, COMMAND_LINE)
    return result


def settings_of(settings: list[str], verb: str = "run") -> dict[str, Any]:
    """The values of "key=value" by their keys, the last of each. Raises CommandInvalid."""
    found = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not all(part.strip() for part in key.split(".")):
            raise CommandInvalid(verb=verb, word=setting, detail="--set takes KEY=VALUE")
        value = _value(text.strip())
        if key.strip().endswith("_key") and not isinstance(value, str):
            value = text.strip()  # A field's name, be it 0 or true.
        found[key.strip()] = (
            [value]
            if isinstance(value, str) and key.strip().rpartition(".")[2] in _LISTS
            else value
        )
    return found


def _locate(table: Any, name: str) -> None:
    """A path of the command line is one from the current folder, as --data is; a recipe's is one
    from its own folder. A package's is inside the package."""
    path = table[name]
    if name == "path" and isinstance(path, str) and path and table.get("format") != "package":
        table[name] = str(Path(path).resolve())


def _assign(document: Any, key: str, value: Any) -> Any:
    """Put a value in; returns the table that has it now."""
    *parents, last = key.split(".")
    table, before = document, ""
    for parent in parents:
        if isinstance(table, list):
            table = next((item for item in table if item.get("name") == parent), None)
            if table is None:
                detail = f"there is no {before.removesuffix('s')} named {parent}"
                raise RecipeInvalid(path=COMMAND_LINE, key=key, detail=detail)
            continue
        before = parent
        table = table.setdefault(parent, tomlkit.table())
    if not hasattr(table, "keys"):
        detail = "not a field; write data.sources.NAME.FIELD=value"
        raise RecipeInvalid(path=COMMAND_LINE, key=key, detail=detail)
    table[last] = value
    return table


def _value(text: str) -> Any:
    """A TOML value, or the text itself as a string: --set name=books needs no quotes."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
