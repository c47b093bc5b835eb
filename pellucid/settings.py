"""Settings, "key=value", put into the TOML of a recipe: what --set does."""

from __future__ import annotations

import tomllib
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import tomlkit

from pellucid.errors import CommandInvalid, RecipeInvalid
from pellucid.recipe import COMMAND_LINE, Recipe, parse
from pellucid.sections import Section


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
    values = {}
    for setting in settings:
        key, equals, text = (part.strip() for part in setting.partition("="))
        if not equals or not all(part.strip() for part in key.split(".")):
            raise CommandInvalid(verb=verb, word=setting, detail="--set takes KEY=VALUE")
        values[key] = _value(text, _types(key))
    return values


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


def _value(text: str, types: set[Any]) -> Any:
    """A value for a field of these types. A text needs no quotes, and a list of one text no
    brackets: --set name=2024, --set data.sources.books.include=*.md."""
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    if types == {str}:
        return value if isinstance(value, str) else text
    if types == {tuple[str, ...]} and not isinstance(value, list):
        return [value if isinstance(value, str) else text]
    return value


def _types(key: str) -> set[Any]:
    """The types of the values that a field of the recipe takes; none where there is no field."""
    types: set[Any] = {Recipe}
    for part in key.split("."):
        types = {inner for outer in types for inner in _types_inside(outer, part)}
    return types


def _types_inside(outer: Any, part: str) -> set[Any]:
    """The types of what stands under a word of a key: a field of a section, an entry of a table, or
    a source or phase by its name."""
    if isinstance(outer, type) and issubclass(outer, Section):
        field = outer.model_fields.get(part)
        return _types_of(field.annotation) if field else set()
    if get_origin(outer) is dict:
        return _types_of(get_args(outer)[1])
    return _types_of(get_args(outer)[0]) if get_origin(outer) is tuple else set()


def _types_of(annotation: Any) -> set[Any]:
    """The types of an annotation, without bounds and None."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _types_of(arguments[0])
    if origin in (Union, UnionType):
        return {kind for argument in arguments for kind in _types_of(argument)} - {NoneType}
    return {type(value) for value in arguments} if origin is Literal else {annotation}
