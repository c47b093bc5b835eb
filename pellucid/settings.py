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
    for key, value in settings_of(settings, verb).items():
        _assign(document, key, value)
    result = tomlkit.dumps(document).encode("utf-8")
    if settings:
        parse(result, COMMAND_LINE)
    return result


def settings_of(settings: list[str], verb: str = "run") -> dict[str, Any]:
    """The values of "key=value" by their keys, the last of each. Raises CommandInvalid."""
    found = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
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


def _assign(document: Any, key: str, value: Any) -> None:
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


def _value(text: str) -> Any:
    """A TOML value, or the text itself as a string: --set name=books needs no quotes."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
