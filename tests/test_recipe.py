from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from pellucid import operations, recipe
from pellucid.errors import (
    CommandInvalid,
    OperationsMissing,
    RecipeInvalid,
    RecipeTooNew,
    RecipeTooOld,
    RecipeUnknownKey,
    RecipeUnreadable,
    RunMissing,
)
from pellucid.new import PRESETS, first_fit, recipe_text, sources_of
from pellucid.record.arithmetics import ARITHMETICS
from pellucid.sections import Section
from pellucid.settings import with_settings

BASE = (
    b'version = 4\nname = "a"\n[train]\nlr = 1e-3 # keep me\n'
    b'[[data.sources]]\nname = "s"\npath = "/x"\n'
)
# Another digest is another version: see docs/format.md.
GOLDEN = "b233492d9386033c4a8021acba95e80a49c051789b07d0963c76601d79a97421"


def parsed(content: bytes) -> recipe.Recipe:
    return recipe.parse(content, "recipe.toml")


def changed(*settings: str) -> recipe.Recipe:
    return parsed(with_settings(BASE, list(settings), "recipe.toml"))


def test_placement_is_not_in_the_digest() -> None:
    settings = (
        "data.sources.s.path=/y",
        "placement.threads=7",
        "placement.anchors.every=3",
        "data.root=ab",
        "tokenizer.path=t.json",
        "name=b",
    )
    assert changed(*settings).digest() == parsed(BASE).digest()


@pytest.mark.parametrize(
    "setting",
    [
        "seed=2",
        "train.lr=2e-3",
        "train.steps=201",
        "model.tied=false",
        "validation.every=7",
        "record.commitment=microbatches",
        "data.invalid_utf8=drop",
        "data.split=parts",
        "tokenizer.pattern=gpt2",
        "data.sources.s.weight=2",
        "data.sources.s.licence=MIT",
        'data.sources.s.include=["*.md"]',
    ],
)
def test_everything_else_is(setting: str) -> None:
    assert changed(setting).digest() != parsed(BASE).digest()


def test_the_digest_of_version_4_never_moves() -> None:
    assert parsed(BASE).digest().hex() == GOLDEN


def test_a_recipe_without_a_version_is_of_version_4() -> None:
    bare = parsed(BASE.removeprefix(b"version = 4\n"))
    assert (bare.version, bare.digest().hex()) == (4, GOLDEN)


@pytest.mark.parametrize("version", [0, 1, 2, 3, -1])
def test_an_earlier_version_is_refused_with_what_to_do(version: int) -> None:
    with pytest.raises(
        RecipeTooOld, match=rf"version {version}\. .*Make the run again with version = 4"
    ):
        parsed(BASE.replace(b"version = 4", b"version = %d\nold_key = 1" % version))


@pytest.mark.parametrize("version", ["true", "4.0", "'4'", "[4]"])
def test_a_version_that_is_no_integer_is_refused(version: str) -> None:
    with pytest.raises(RecipeInvalid, match="version"):
        parsed(BASE.replace(b"version = 4", f"version = {version}".encode()))


def test_the_demo_keeps_the_recipe_that_the_readme_states(tmp_path: Path) -> None:
    from pellucid import demo
    from pellucid.new import new

    new(tmp_path / "demo", demo.DATA, demo.PRESET, demo.SETTINGS)
    assert recipe.load(tmp_path / "demo").digest().hex() == demo.RECIPE


def choices(section: type[Section], field: str) -> tuple[str, ...]:
    return get_args(section.model_fields[field].annotation)


COMPUTED = {
    ("portable", "fp32", "cpu"),
    ("native", "fp32", "cpu"),
    ("native", "fp32", "cuda"),
    ("native", "bf16", "cuda"),
}


@pytest.mark.parametrize("device", choices(recipe.Placement, "device"))
@pytest.mark.parametrize("precision", choices(recipe.Train, "precision"))
@pytest.mark.parametrize("arithmetic", choices(recipe.Train, "arithmetic"))
def test_what_nothing_computes_is_refused(arithmetic: str, precision: str, device: str) -> None:
    settings = (f"train.arithmetic={arithmetic}", f"train.precision={precision}")
    words = f'precision = "{precision}" on placement.device = "{device}". There are portable fp32 '
    if (arithmetic, precision, device) in COMPUTED:
        changed(*settings, f"placement.device={device}")
        assert operations.of(arithmetic, device).__name__ == f"pellucid.operations.{arithmetic}"
    else:
        with pytest.raises(RecipeInvalid, match=re.escape(words)):
            changed(*settings, f"placement.device={device}")


@pytest.mark.parametrize("pair", [("portable", "cuda"), ("exact", "cpu"), ("native", "tpu")])
def test_operations_of_an_unknown_pair_are_missing_by_name(pair: tuple[str, str]) -> None:
    words = f"Pellucid has no {pair[0]} arithmetic for the device {pair[1]}. Set train.arithmetic "
    with pytest.raises(OperationsMissing, match=re.escape(words)):
        operations.of(*pair)


def test_every_arithmetic_of_a_recipe_has_a_version() -> None:
    named = choices(recipe.Train, "arithmetic")
    assert {name for name, _ in operations.BY} == set(named) == set(ARITHMETICS)
    assert [ARITHMETICS[name].name for name in named] == ["portable 1", "native 1"]


def test_a_default_written_out_is_the_same_recipe() -> None:
    assert (
        changed("optimizer.beta1=0.9", "model.context=256", "seed=1").digest()
        == parsed(BASE).digest()
    )


def test_settings_keep_comments_and_take_words_without_quotes() -> None:
    text = with_settings(BASE, ["train.lr=5e-4", "data.sources.s.licence=CC BY 4.0"], "r").decode()
    assert "0.0005 # keep me" in text and 'licence = "CC BY 4.0"' in text


def test_one_string_is_a_list_of_one_where_a_list_is_meant() -> None:
    for given in ("*.txt", '"*.txt"', '["*.txt"]'):
        assert changed(f"data.sources.s.include={given}").source("s").include == ("*.txt",)
    with pytest.raises(RecipeInvalid, match=r"include\.0: should be a text in quotes \(it is 3\)"):
        changed("data.sources.s.include=[3]")


@pytest.mark.parametrize("given", ["2024", "true", "2024-01-01", "1e3", "[books]", '"2024"'])
def test_a_text_needs_no_quotes_whatever_it_looks_like(given: str) -> None:
    text = given.strip('"')
    settings = [f"{field}={given}" for field in ("licence", "text_key", "origin_key", "path")]
    source = changed(
        "data.sources.s.format=jsonl",
        *(f"data.sources.s.{setting}" for setting in settings),
        f"data.sources.s.include={given}" if given != "[books]" else "data.root=",
    ).source("s")
    assert (source.licence, source.text_key, source.origin_key) == (text, text, text)
    assert source.path == str(Path(text).resolve())
    assert source.include == ((text,) if given != "[books]" else ())


def test_the_field_decides_how_a_value_is_read() -> None:
    """Also fields of a phase, of a table and of a section that has several kinds."""
    assert changed("name=2024").name == "2024"
    begun = (f"fork.parent={'1' * 64}", f"fork.state={'2' * 64}", "fork.cursors.s=0")
    assert changed(*begun).fork.parent == "1" * 64
    phase = BASE + b'[[phase]]\nname = "a"\nsteps = 200\n'
    settings = ["phase.a.frozen=1", "phase.a.weights.s=3", "phase.a.start.s=again"]
    (own,) = parsed(with_settings(phase, settings, "recipe.toml")).phase
    assert (own.frozen, own.weights, own.start) == (("1",), {"s": 3}, {"s": "again"})
    for setting, said in [
        ("train.schedule=1", "train.schedule: should be"),
        ("optimizer.kind=2", "optimizer.kind: should be"),
        ("placement.trace=1", "placement.trace: should be true or false"),
        ("train.lr='1'", "train.lr: should be a number"),
        ("data.sources.s.weight.a=1", "weight: should be an integer"),
    ]:
        with pytest.raises(RecipeInvalid, match=said):
            changed(setting)


def test_errors_of_settings_name_the_command_line_and_those_of_the_file_the_file() -> None:
    for setting in ("train.lr=x", "train.steps=0", "data.sources.other.weight=1", "data.sources=1"):
        with pytest.raises(RecipeInvalid, match=r"^the command line: .*Correct it there\.$"):
            changed(setting)
    with pytest.raises(
        RecipeInvalid, match=r"^the command line: .*, or with --set train.decay=40\.$"
    ):
        changed("train.decay=500")
    with pytest.raises(
        RecipeInvalid, match=r"^r\.toml: seed: .*there, or with --set seed=VALUE\.$"
    ):
        with_settings(b'seed = "x"\n' + BASE, ["train.lr=1"], "r.toml")


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("[train]\nlearnrate = 1.0", ""),
        ("[train]\nstep = 5", "train.steps"),
        ("[trian]\nlr = 1.0", "train"),
        ("[model]\nhead = 4", "model.heads"),
        ("sed = 4", "seed"),
        ("[placement]\nthread = 2", "placement.threads"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest(line: str, hint: str) -> None:
    content = (
        b'name = "a"\n'
        + (line.encode() if "[" not in line else b"")
        + b'\ndata.sources = [{name = "s"}]\n'
    )
    with pytest.raises(RecipeUnknownKey) as caught:
        parsed(content + (line.encode() if "[" in line else b""))
    assert f"did you mean {hint}" in str(caught.value) or not hint


@pytest.mark.parametrize(
    ("setting", "detail"),
    [
        ("train.lr=-1", "greater than 0"),
        ("train.lr=nan", "finite"),
        ("train.lr=fast", "number"),
        ("train.steps=2.5", "integer"),
        (
            "train.batch=10",
            r"train\.microbatch: .* batch = 10 is not a multiple of it\. "
            r".* --set train\.microbatch=10\.",
        ),
        ("model.kv_heads=3", "multiple of kv_heads"),
        ("tokenizer.vocabulary=70000", "uint32"),
        ("train.precision=bf16", r"nothing computes .* on placement\.device"),
        (
            "train.warmup=500",
            r"train\.warmup: .* longer than steps = 200\. .* --set train\.warmup=20\.",
        ),
        ("train.steps=5", r"--set train\.warmup=0\."),
        ("data.pipeline=1", "should be 2 .it is 1"),
        ("data.pipeline=2.0", "integer"),
        ("name=../x", "begin with a letter or a digit"),
        ("data.sources.s.weight=0", "nothing to train on"),
        ("data.sources.t.weight=1", "no source named t"),
    ],
)
def test_a_wrong_value_names_its_key(setting: str, detail: str) -> None:
    with pytest.raises(RecipeInvalid, match=detail):
        changed(setting)


def test_a_setting_is_a_key_and_a_value() -> None:
    with pytest.raises(CommandInvalid, match="KEY=VALUE"):
        changed("nonsense")


def test_unreadable_newer_and_missing() -> None:
    with pytest.raises(RecipeUnreadable, match="line 1"):
        parsed(b"name = \n")
    with pytest.raises(RecipeUnreadable):
        parsed(b"\xff\xfe")
    with pytest.raises(RecipeTooNew, match="declares version 5"):
        parsed(BASE.replace(b"version = 4", b"version = 5\nnew_key = 1"))
    with pytest.raises(RunMissing):
        recipe.load(Path("/nonexistent"))


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_a_valid_recipe_of_about_its_size(preset: str, tmp_path: Path) -> None:
    made = parsed(
        recipe_text(
            tmp_path / "run",
            sources_of(["text:/x", "text:/y/x"]),
            PRESETS[preset],
            first_fit(PRESETS[preset], {}, False),
        ).encode()
    )
    m = made.model
    kv = m.width * m.kv_heads // m.heads
    layer = 2 * m.width * m.width + 2 * m.width * kv + 3 * m.width * m.mlp_width + 2 * m.width
    size = m.layers * layer + m.width + made.tokenizer.vocabulary * m.width
    named = float(preset[:-1]) * {"M": 1e6, "B": 1e9}[preset[-1]]
    assert 0.7 < size / named < 1.4, size
    assert [source.name for source in made.data.sources] == ["x", "x-2"]


def test_texts_are_not_longer_than_a_published_pattern_reads() -> None:
    longest = recipe.LONGEST_MATCHED
    assert changed(f"data.max_document_characters={longest}").tokenizer.pattern == "llama3"
    with pytest.raises(
        RecipeInvalid, match=r"llama3.*data\.max_document_characters=4000000|4000000"
    ):
        changed(f"data.max_document_characters={longest + 1}")
    for other in ("tokenizer.pattern=pellucid", "tokenizer.kind=bytes"):
        changed(other, f"data.max_document_characters={longest + 1}")
