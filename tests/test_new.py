"""`new` then `run`, with nothing else: what a newcomer has, at the first try."""

from __future__ import annotations

import errno
import hashlib
import json
import random
import re
import subprocess
from pathlib import Path

import pytest

from pellucid import errors
from pellucid.changes import change_recipe
from pellucid.data import packings, sources
from pellucid.data.documents import Documents, split_of
from pellucid.new import PRESETS, first_fit, new, sources_of
from pellucid.recipe import load
from tests.conftest import finish, pellucid, prose
from tests.data.test_recognise import CSV, FASTQ, parquet

SMALL = [  # What keeps a test quick; nothing that decides whether the data fits.
    "model.layers=1",
    "model.width=16",
    "model.heads=2",
    "model.kv_heads=2",
    "model.mlp_width=16",
    "tokenizer.vocabulary=300",
    "validation.tokens=200",
    "placement.threads=1",
]


def book(folder: Path) -> Path:
    (folder / "book.txt").write_text(prose(1, 20_000))
    return folder / "book.txt"


def fifty(folder: Path) -> Path:
    (folder / "texts").mkdir()
    for number in range(50):
        (folder / "texts" / f"{number}.txt").write_text(prose(number, 150))
    return folder / "texts"


def chats(folder: Path) -> Path:
    path = folder / "export.jsonl"
    said = [
        [{"role": "user", "content": prose(n, 20)}, {"role": "assistant", "content": prose(-n, 60)}]
        for n in range(1, 60)
    ]
    path.write_text(
        "".join(json.dumps({"id": str(n), "messages": one}) + "\n" for n, one in enumerate(said))
    )
    return path


def genes(folder: Path) -> Path:
    letters = "".join("ACGT"[ord(c) % 4] for c in prose(3, 2000))
    records = (f">gene{n}\n{letters[n * 90 : n * 90 + 400]}\n" for n in range(60))
    (folder / "genes.fa").write_text("; a comment\n" + "".join(records))
    return folder / "genes.fa"


def wide(folder: Path) -> Path:
    (folder / "windows.txt").write_text(prose(5, 9000), encoding="utf-16")
    return folder / "windows.txt"


def mixed(folder: Path) -> Path:
    place = fifty(folder)
    (place / "0.txt").rename(place / "0.TXT")
    (place / "latin.md").write_bytes("à propos: café ".encode("latin-1") * 9)
    (place / "photo.png").write_bytes(b"\x89PNG\0")
    (place / "table.csv").write_text("a,b\n1,2\n3,4\n5,6\n7,8\n9,0\n")
    chats(place)
    return place


def tiny(folder: Path) -> Path:
    (folder / "note.txt").write_text(prose(9, 400))
    return folder / "note.txt"


@pytest.mark.parametrize("make", [book, fifty, chats, genes, wide, mixed, tiny])
def test_every_kind_of_data_is_prepared_at_the_first_try(make, tmp_path: Path) -> None:
    new(tmp_path / "run", [str(make(tmp_path))], "3M", [*SMALL, "train.steps=20"])
    for stage in ("documents", "tokenizer", "shards"):
        finish(tmp_path / "run", stage)
    about = Documents.open(tmp_path / "run").manifest
    assert sum(one["validation_documents"] for one in about["sources"]) > 0
    assert load(tmp_path / "run").train.warmup == 2


def test_a_mixed_folder_is_two_sources_and_keeps_every_text(tmp_path: Path) -> None:
    new(tmp_path / "run", [str(mixed(tmp_path))], "1M", [*SMALL, "train.steps=20"])
    finish(tmp_path / "run", "documents")
    found = Documents.open(tmp_path / "run").manifest["sources"]
    assert [(one["format"], one["documents"]) for one in found] == [("text", 51), ("jsonl", 59)]
    assert found[0]["dropped"] == {"csv": 1, "elsewhere": 1, "latin1_guessed": 1, "not_included": 1}


def test_foreign_files_beside_texts_are_left_out_and_said(tmp_path: Path) -> None:
    place = fifty(tmp_path)
    for name, content in (
        ("a.csv", CSV),
        ("b.json", b'[{"text": "words"}]'),
        ("c.fastq", FASTQ),
        ("d.pq", parquet()),
    ):
        (place / name).write_bytes(content)
    (place / "plain.json").write_text('{"name": 1}')
    notes = new(tmp_path / "run", [str(place)], "1M", [*SMALL, "train.steps=20"])
    assert any(
        re.match(
            r"4 files, such as a.csv \(CSV\), are left out: tables are not read in a .*--data csv:",
            one,
        )
        for one in notes
    )
    finish(tmp_path / "run", "documents")
    (found,) = Documents.open(tmp_path / "run").manifest["sources"]
    assert (found["documents"], found["dropped"]) == (51, {"csv": 1, "json_array": 1, "foreign": 2})


def test_fasta_under_another_ending_is_not_read_as_text(tmp_path: Path) -> None:
    place = fifty(tmp_path)
    genes(tmp_path).rename(place / "genes.txt")
    notes = new(tmp_path / "run", [str(place)], "1M", [*SMALL, "train.steps=20"])
    named = f"fasta:{place / 'genes.txt'}"
    assert any(
        "genes.txt (FASTA), is left out" in one and one.endswith(f"--data {named})")
        for one in notes
    ), notes
    finish(tmp_path / "run", "documents")
    (found,) = Documents.open(tmp_path / "run").manifest["sources"]
    assert (found["documents"], found["dropped"]) == (50, {"fasta": 1})
    assert [one.format for one in sources_of([named])] == ["fasta"]
    for text in place.glob("[0-9]*.txt"):
        text.unlink()
    with pytest.raises(errors.FormatForeign, match=f"is FASTA.*--data {named}"):
        new(tmp_path / "other", [str(place)], "1M", SMALL)


def test_files_without_the_key_of_the_texts_are_said(tmp_path: Path) -> None:
    place = tmp_path / "both"
    place.mkdir()
    chats(place)
    rows = [{"question": prose(n, 20), "answer": prose(-n, 20)} for n in range(1, 20)]
    (place / "qa.jsonl").write_text("".join(map("{}\n".format, map(json.dumps, rows))))
    notes = new(tmp_path / "run", [str(place)], "1M", [*SMALL, "train.steps=20"])
    (said,) = (one for one in notes if "so these records are left out" in one)
    assert said.startswith('1 file, qa.jsonl, has no text under "messages"') and said.endswith(
        f"{place / 'qa.jsonl'}"
    )
    finish(tmp_path / "run", "documents")
    assert Documents.open(tmp_path / "run").manifest["sources"][0]["dropped"] == {"no_text": 19}


def test_tables_without_the_column_of_the_texts_are_said(tmp_path: Path) -> None:
    place = tmp_path / "tables"
    place.mkdir()
    lines = [f'{n},"{prose(n, 60).strip()}"' for n in range(1, 60)]
    (place / "a.csv").write_text("\n".join(["n,text", *lines]))
    (place / "b.csv").write_text("\n".join(["n,other", *lines]))
    notes = new(tmp_path / "run", [str(place)], "1M", [*SMALL, "train.steps=20"])
    (said,) = (one for one in notes if "so these records are left out" in one)
    assert said.startswith('1 file, b.csv, has no text under "text"')
    assert said.endswith(f"--data csv:{place / 'b.csv'}")


def described(folder: Path) -> Path:
    rows = [
        {"body": prose(n, 60), "License": "MIT", "meta": {"url": f"x{n}", "date": "2024-01-02"}}
        for n in range(1, 60)
    ]
    rows = [one | {"id": n % 9, "uuid": f"u{n}", "origin": None} for n, one in enumerate(rows)]
    (folder / "d.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder / "d.jsonl"


def test_fields_that_describe_the_texts_are_said_with_their_settings(tmp_path: Path) -> None:
    place = str(described(tmp_path))
    notes = new(tmp_path / "run", [place], "1M", SMALL)
    (said,) = (one for one in notes if "look like" in one)
    assert not any("the licence of" in one for one in notes)
    settings = re.findall(r"--set (\S+)", said)
    assert settings == [
        f"data.sources.d.{one}"
        for one in (
            "licence_key=License",
            "origin_key=meta.url",
            "date_key=meta.date",
            "id_key=uuid",  # Of id some are equal, and of origin all are null.
        )
    ]
    notes = new(tmp_path / "again", [place], "1M", [*SMALL, *settings])
    assert not any("look like" in one or "the licence of" in one for one in notes)
    reader = sources.readers(load(tmp_path / "again"), tmp_path / "again")[0]
    assert [one.id for one, _ in reader.documents()][8] == "d/d.jsonl:u8"
    assert not reader.left.counts


def test_chats_that_lose_words_are_said(tmp_path: Path) -> None:
    place = chats(tmp_path)
    text = place.read_text()
    assert not any("is lost" in one for one in new(tmp_path / "a", [str(place)], "1M", SMALL))
    place.write_text(text.replace('"assistant", "content"', '"assistant", "text"'))
    notes = new(tmp_path / "b", [str(place)], "1M", SMALL)
    (said,) = (one for one in notes if "is lost" in one)
    assert said.startswith("59 of the first 59 chats of export")
    subprocess.run(said.partition("this writes: ")[2], shell=True, check=True)
    kept = [json.loads(one)["text"] for one in (tmp_path / "export-2.jsonl").open()]
    whole = [json.loads(one)["messages"] for one in text.splitlines()]
    assert kept == ["\n".join(f"{m['role']}: {m['content']}" for m in one) for one in whole]


def test_the_same_file_given_twice_is_said(tmp_path: Path) -> None:
    place = str(book(tmp_path))
    with pytest.raises(errors.SourceRepeated, match=r"Source book-2: .* before it \(book\)"):
        new(tmp_path / "run", [place, place], "1M", SMALL)


@pytest.mark.parametrize(
    ("setting", "fix"),
    [("train.batch=90000", "train.batch"), ("model.context=90000", "model.context")],
)
def test_a_step_larger_than_the_texts_names_the_setting(
    tmp_path: Path, setting: str, fix: str
) -> None:
    notes = new(tmp_path / "run", [str(book(tmp_path))], "1M", [*SMALL, setting])
    (said,) = (one for one in notes if "a step of" in one)
    assert said.endswith(f"add text, or lower {fix}") and "90,000" in said


def test_the_key_of_the_texts_is_said(tmp_path: Path) -> None:
    notes = new(tmp_path / "run", [str(chats(tmp_path))], "1M", [*SMALL, "train.steps=20"])
    assert (
        'the texts of export are what stands under "messages" (text_key); other fields stay out'
        in notes
    )


def test_a_key_or_a_pattern_that_takes_nothing_is_refused_before_it_is_written(
    tmp_path: Path,
) -> None:
    place, folder = chats(tmp_path), tmp_path / "run"
    with pytest.raises(errors.TextKeyMissing, match=r"messages \(59\)"):
        new(folder, [str(place)], "1M", [*SMALL, "data.sources.export.text_key=body"])
    assert not folder.exists()
    new(folder, [str(place)], "1M", SMALL)
    before = (folder / "recipe.toml").read_bytes()
    for setting, error in (
        ("text_key=body", errors.TextKeyMissing),
        ("format=fasta", errors.FormatForeign),
        ('include=["[z-a].jsonl"]', errors.RecipeInvalid),
        ("txt_key=id", errors.RecipeUnknownKey),
    ):
        with pytest.raises(error):
            change_recipe(folder, [f"data.sources.export.{setting}"])
        assert (folder / "recipe.toml").read_bytes() == before
    change_recipe(folder, ["data.sources.export.text_key=id"])
    place.unlink()
    # The texts are not looked for: they are read as before.
    change_recipe(folder, ["data.sources.export.licence=MIT"])


def test_new_given_again_after_a_kill_goes_on(tmp_path: Path) -> None:
    place, folder = book(tmp_path), tmp_path / "run"
    first = new(folder, [str(place)], "1M", SMALL)
    made = (folder / "recipe.toml").read_bytes()
    (folder / ".partial-recipe.toml").write_bytes(made[:99])  # As a kill leaves it …
    assert new(folder, [str(place)], "1M", SMALL) == first
    assert {one.name: one.read_bytes() for one in folder.iterdir()} == {"recipe.toml": made}
    # … before the recipe was there.
    (folder / "recipe.toml").rename(folder / ".partial-recipe.toml")
    new(folder, [str(place)], "1M", SMALL)
    assert {one.name: one.read_bytes() for one in folder.iterdir()} == {"recipe.toml": made}
    with pytest.raises(errors.FolderTaken, match=r"a run.*continue that run with"):
        new(folder, [str(place)], "1M", [*SMALL, "seed=2"])
    assert (folder / "recipe.toml").read_bytes() == made
    (folder / "mine.txt").touch()
    with pytest.raises(errors.FolderTaken, match="a run"):
        new(folder, [str(place)], "1M", SMALL)


def test_a_pattern_takes_tables_as_texts(tmp_path: Path) -> None:
    place = fifty(tmp_path)
    (place / "a.csv").write_bytes(CSV)
    new(
        tmp_path / "run",
        [str(place)],
        "1M",
        [*SMALL, 'data.sources.texts.include=["*.csv", "*.txt"]'],
    )
    finish(tmp_path / "run", "documents")
    assert Documents.open(tmp_path / "run").manifest["documents"] == 51


def test_what_was_left_out_is_printed_and_in_json(tmp_path: Path) -> None:
    settings = [word for setting in SMALL for word in ("--set", setting)]
    pellucid("new", tmp_path / "run", "--data", mixed(tmp_path), "--preset", "1M", *settings)
    done = pellucid("run", tmp_path / "run", "--only", "documents", "--json")
    about = json.loads(done.stdout)
    assert [one["source"] for one in about["left_out"]] == ["texts", "texts-jsonl"]
    assert "Latin-1 guessed" in done.stderr and "latin.md" in done.stderr
    again = pellucid("run", tmp_path / "run", "--only", "documents", "--json")
    assert "left_out" not in json.loads(again.stdout)


# ---- validation --------------------------------------------------------------------------------


def held(folder: Path) -> float:
    """The part of the bytes that the recipe keeps for validation, of all that its sources hold."""
    data, sizes = load(folder).data, [0, 0]
    for reader in sources.readers(load(folder), folder):
        for one, _ in reader.documents():
            content = one.text.encode()
            digest = one.whole if data.split == "texts" else hashlib.sha256(content).digest()
            sizes[split_of(digest, data.validation_per_10000) == "validation"] += len(content)
    return sizes[1] / sum(sizes)


def letters(folder: Path, draw: random.Random, lengths: list[int]) -> Path:
    (folder / "texts").mkdir()
    for number, length in enumerate(lengths):
        (folder / "texts" / f"{number}.txt").write_text(draw.randbytes(length).hex(" ", 7)[:length])
    return folder / "texts"


@pytest.mark.parametrize(
    "lengths",
    [
        [1_066_032],
        [1_200_000],
        [2_100_000],
        [999_000],
        [100_000] * 8,
        [10_000],
        [10_000] * 60,
        [1_500_000, 10_000],
    ]
    + [
        [random.Random(seed).randrange(10_000, 300_000)] * random.Random(-seed).randrange(1, 9)
        for seed in range(6)
    ],
)
def test_validation_is_a_small_share_of_the_bytes(lengths: list[int], tmp_path: Path) -> None:
    place = letters(tmp_path, random.Random(sum(lengths)), lengths)
    notes = new(tmp_path / "run", [str(place)], "1M", SMALL)
    share = held(tmp_path / "run")
    assert 0.005 <= share <= 0.05
    assert any(
        note.startswith(f"{100 * share:.2g}% of the text is kept for validation") for note in notes
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(30))
def test_validation_is_a_small_share_of_any_texts(seed: int, tmp_path: Path) -> None:
    draw = random.Random(seed)
    lengths = [int(10_000 * 500 ** draw.random()) for _ in range(draw.randrange(1, 61))]
    new(tmp_path / "run", [str(letters(tmp_path, draw, lengths))], "1M", SMALL)
    assert 0 < held(tmp_path / "run") < 0.2


# ---- settings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, {"steps": 600, "warmup": 60, "validation_every": 150, "anchors_every": 75}),
        (
            {"train.steps": 20},
            {"steps": 20, "warmup": 2, "validation_every": 5, "anchors_every": 2},
        ),
        ({"train.steps": 1}, {"steps": 1, "warmup": 0, "validation_every": 1, "anchors_every": 1}),
        ({"train.steps": 10, "train.decay": 10}, {"steps": 10, "warmup": 0}),
        ({"train.batch": 12}, {"batch": 12, "microbatch": 12}),
        ({"train.batch": 2**61 - 1, "train.microbatch": 2**61 - 2}, {"microbatch": 1}),
        ({"train.batch": 34}, {"batch": 34, "microbatch": 2}),
        ({"train.steps": "many"}, {"steps": 600}),
    ],
)
def test_the_rest_follows_what_was_asked(asked: dict, expected: dict) -> None:
    fitted = first_fit(PRESETS["3M"], asked, sequences=False)._asdict()
    assert {key: fitted[key] for key in expected} == expected


def test_settings_stay_as_they_are_given(tmp_path: Path) -> None:
    settings = [
        *SMALL,
        "train.warmup=7",
        "train.steps=20",
        "data.validation_per_10000=700",
        "model.context=64",
    ]
    new(tmp_path / "run", [str(book(tmp_path))], "3M", settings)
    recipe = load(tmp_path / "run")
    assert (recipe.train.warmup, recipe.data.validation_per_10000, recipe.model.context) == (
        7,
        700,
        64,
    )


def test_a_preset_too_large_for_the_data_is_fitted_and_said(tmp_path: Path) -> None:
    notes = new(tmp_path / "run", [str(tiny(tmp_path))], "100M", SMALL)
    assert any("train.batch = " in note for note in notes)
    recipe = load(tmp_path / "run")
    assert recipe.model.context < 1024 and recipe.train.batch < 128
    assert not [
        note
        for note in new(tmp_path / "two", [str(book(tmp_path))], "1M", SMALL)
        if "train.batch" in note
    ]


def test_run_names_a_warmup_that_fits(tmp_path: Path) -> None:
    new(tmp_path / "run", [str(tiny(tmp_path))], "1M", SMALL)
    said = pellucid("run", tmp_path / "run", "--set", "train.steps=20", check=2).stderr
    assert "--set train.warmup=2" in said


# ---- what cannot work is said at once ----------------------------------------------------------


def test_a_path_that_is_missing_is_said_by_new(tmp_path: Path) -> None:
    with pytest.raises(errors.SourceMissing, match="nowhere"):
        new(tmp_path / "run", [str(tmp_path / "nowhere")], "1M", [])
    with pytest.raises(errors.PackageMissing, match="no-such-package"):
        new(tmp_path / "run", ["package:no-such-package"], "1M", [])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("word", ["a" * 5000, "text:" + "a" * 300 + ".txt", "b/" * 3000])
def test_a_path_that_is_none_is_said_by_new(tmp_path: Path, word: str) -> None:
    with pytest.raises(errors.SourceUnreadable, match="too long"):
        new(tmp_path / "run", [word], "1M", [])


def test_what_the_system_does_not_read_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(errors.SourceUnreadable, match="Invalid argument"):
        next(packings.chunks(tmp_path / "a.txt", "a"))


def test_a_run_inside_its_own_data_is_refused(tmp_path: Path) -> None:
    place = fifty(tmp_path)
    for folder in (place / "run", place / "deep" / "run"):
        with pytest.raises(errors.RunInsideData, match="overlap, so the run would read"):
            new(folder, [str(place)], "1M", [])
    (tmp_path / "link").symlink_to(place)
    with pytest.raises(errors.RunInsideData):
        new(tmp_path / "link" / "run", [str(place)], "1M", [])


def test_data_in_a_folder_that_the_run_writes_is_refused(tmp_path: Path) -> None:
    new(tmp_path / "run", [str(fifty(tmp_path))], "1M", SMALL)
    for own in ("data/mine", "checkpoints", "."):
        (tmp_path / "run" / own).mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / own / "a.txt").write_text("text")
        path = tmp_path / "run" / "recipe.toml"
        path.write_text(path.read_text().replace(str(tmp_path / "texts"), own))
        with pytest.raises(errors.RunInsideData):
            finish(tmp_path / "run")
        path.write_text(
            path.read_text().replace(f'path = "{own}"', f'path = "{tmp_path / "texts"}"')
        )
