"""No value of a recipe is refused in the words of the library that validates it."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pellucid import wording
from pellucid.data import tokenizer
from pellucid.errors import CommandInvalid, PellucidError, RecipeInvalid
from pellucid.recipe import COMMAND_LINE, Recipe, _validated, parse, sections_of
from pellucid.sections import PATTERNS, Section, tuples
from pellucid.settings import with_settings

BASE: dict[str, Any] = {"name": "a", "data": {"sources": [{"name": "s"}]}}
WRONG: list[Any] = [
    *(None, "", "  ", "adamv", "a/b", -1, 0, 1.5, 2**80, 10**400, True, [], {}, [1], {"a": "x"}),
    *(float("nan"), float("inf"), datetime.date(2020, 1, 1), ["x"] * 100, [["x"]], [{}], {"": -1}),
]
FOREIGN = ("Input", "input", "instance", "tag", "valid", "pattern", "dictionary", "Pydantic")


def fields(section: type[Section], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, field in section.model_fields.items():
        yield (*path, name)
        for inner in sections_of(field.annotation):
            yield from fields(inner, (*path, name))


def put(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """The plain recipe with one value in it, in its only source or phase where it is one's."""
    made: dict[str, Any] = {**BASE, "data": {"sources": [{"name": "s"}]}}
    table = made
    for number, name in enumerate(path[:-1]):
        inner = {"name": "p", "steps": 200} if path[: number + 1] == ("phase",) else {}
        table = table.setdefault(name, [inner] if name == "phase" else inner)
        table = table[0] if isinstance(table, list) else table
    table[path[-1]] = value
    return made


def test_every_wrong_value_is_refused_in_our_words() -> None:
    kinds, patterns = set(), set()
    paths = list(dict.fromkeys(fields(Recipe)))
    paths += [("phase", name) for name in ("batch", "lr", "weights", "schedule", "frozen")]
    paths += [("data", "sources", name) for name in ("licence", "include", "format", "weight")]
    for path in paths:
        for value in WRONG:
            values = tuples(put(path, value))
            try:
                Recipe.model_validate(values)
            except ValidationError as error:
                first = error.errors()[0]
                kinds.add(first["type"])
                patterns.add(first.get("ctx", {}).get("pattern"))
                if first["type"] in ("extra_forbidden", "unfit"):
                    continue
                said = wording.words(first)
                assert not any(word in said.split() for word in FOREIGN), said
                with pytest.raises(PellucidError) as caught:
                    _validated(values, COMMAND_LINE)
                assert said in str(caught.value)
    assert {*wording._WORDS, *wording._CHOICES} - kinds <= {"model_attributes_type", "model_type"}
    assert patterns >= set(PATTERNS)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        (
            "optimizer.kind=adamv",
            "optimizer.kind: should be 'adamw' or 'muon'; did you mean adamw? (it is 'adamv'). Cor",
        ),
        ("train.schedule=cosin", "or 'wsd'; did you mean cosine?"),
        ("train=5", "train: should be a section with fields of its own (it is 5)"),
        ("data.sources.s.licence=", "licence: should not be blank; leave it out, or"),
        ("data.sources.s.licence=' '", "licence: should not be blank"),
        ("train.microbatch=5", "--set train.microbatch=4."),
        ("train.microbatch=7", "--set train.microbatch=8."),
        ("train.microbatch=100", "--set train.microbatch=16."),
        ("model.family=lama", "model.family: should be 'llama'"),
    ],
)
def test_a_setting_is_refused_with_what_would_fit(setting: str, said: str) -> None:
    content = b'name = "a"\n[[data.sources]]\nname = "s"\n'
    with pytest.raises(RecipeInvalid) as caught:
        with_settings(content, [setting], "recipe.toml")
    assert said in str(caught.value)


@pytest.mark.parametrize("setting", ["=5", ".=5", "train.=5", ".lr=5", "train..lr=5"])
def test_a_setting_without_a_name_is_no_setting(setting: str) -> None:
    with pytest.raises(CommandInvalid, match="--set takes KEY=VALUE"):
        with_settings(b'name = "a"\n[[data.sources]]\nname = "s"\n', [setting], "recipe.toml")


def test_a_path_of_the_command_line_is_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b'name = "a"\n[[data.sources]]\nname = "s"\n[[data.sources]]\nname = "p"\n'
    monkeypatch.chdir(tmp_path)
    settings = ["tokenizer.kind=file", "tokenizer.path=have.json", "data.sources.s.path=texts"]
    settings += ["data.sources.p.path=numpy", "data.sources.p.format=package"]
    made = parse(with_settings(content, settings, "recipe.toml"), "recipe.toml")
    assert made.tokenizer.path == str(tmp_path / "have.json")
    assert made.source("s").path == str(tmp_path / "texts") and made.source("p").path == "numpy"
    written = parse(content + b'[tokenizer]\nkind = "file"\npath = "have.json"\n', "recipe.toml")
    assert written.tokenizer.path == "have.json", "a recipe's own path stays as it is written"


def test_a_tokenizer_without_a_file_is_refused_by_name(tmp_path: Path) -> None:
    content = b'name = "a"\ntokenizer.kind = "file"\n[[data.sources]]\nname = "s"\n'
    with pytest.raises(RecipeInvalid, match=r"tokenizer\.path: is missing"):
        tokenizer.check(parse(content, "recipe.toml"), tmp_path)
