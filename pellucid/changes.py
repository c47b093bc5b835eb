"""A recipe whose run has begun: what may still change, the check that all else is the same, and in
what two recipes differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pellucid.data import sources
from pellucid.errors import RecipeChanged, ReleaseSealed, SettingTooLate
from pellucid.recipe import FILE, MAX_BYTES, Recipe, parse
from pellucid.recipe import load as load_recipe
from pellucid.record import entries
from pellucid.settings import with_settings
from pellucid.store import files, layout


def change_recipe(folder: Path, settings: list[str]) -> None:
    """Put settings into recipe.toml. Raises SettingTooLate where the run has begun with other bits,
    ReleaseSealed, and for a source that it reads otherwise what sources.check raises."""
    path = folder / FILE
    recipe = load_recipe(folder)
    content = with_settings(files.read_bytes(path, MAX_BYTES), settings, path)
    changed = parse(content, path)
    with layout.writing(folder):
        if (folder / layout.LEDGER).is_file() and changed.digest() != recipe.digest():
            raise SettingTooLate(settings=" --set ".join(settings), run=folder)
        if (folder / layout.MANIFEST).exists():
            raise ReleaseSealed(path=folder)
        sources.check_changed(recipe, changed, folder)
        files.write_bytes(path, content)


def check_recipe(folder: Path, recipe: Recipe, genesis: dict[str, object]) -> None:
    """Raises RecipeChanged where recipe.toml is no longer the one the run was begun with."""
    if genesis["recipe"] != recipe.digest().hex():
        detail = f"ledger format {entries.FORMAT}, recipe version {genesis.get('recipe_version')}"
        digests = {"found": recipe.digest().hex(), "recorded": genesis["recipe"]}
        raise RecipeChanged(path=folder / FILE, run=folder, **digests, detail=detail)


def differences(a: Recipe, b: Recipe) -> list[dict[str, Any]]:
    """Every field of two recipes that can change bits and differs, with both
    values; None where one lacks it."""
    fields_a, fields_b = a.fields(), b.fields()
    names = [
        name
        for name in dict.fromkeys([*fields_a, *fields_b])
        if fields_a.get(name) != fields_b.get(name)
    ]
    # Of a source that only one has, its name says enough.
    named = [
        name for name in names if (name in fields_a and name in fields_b) or name.endswith(".name")
    ]
    return [{"field": name, "a": fields_a.get(name), "b": fields_b.get(name)} for name in named]
