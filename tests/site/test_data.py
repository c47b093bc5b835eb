"""The data of the pages beside what other ways of asking a run give."""

from __future__ import annotations

import base64
import itertools
import json
import math
import zlib
from collections import defaultdict
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.data.cutting import text_of as text_and_part
from pellucid.data.parquet import Documents
from pellucid.errors import FormatInvalid
from pellucid.look.show import Shown
from pellucid.look.status import status
from pellucid.record import chain
from pellucid.site import curves, data, seams, texts
from pellucid.site.data import NoSuchFile, Site
from pellucid.site.numbers import LOSS
from pellucid.site.pack import packed
from pellucid.sql.asked import sql
from pellucid.store import layout, metrics, parquet
from pellucid.store.ledger import LedgerFile
from tests.conftest import finish, make_run, write_corpus
from tests.site import reading
from tests.site.reading import text_of, value, values
from tests.trace.conftest import lossy


def test_steps_show_what_show_shows(finished: Path) -> None:
    site, shown = Site(finished), Shown(finished)
    packs = [
        reading.steps(json.loads(columns), digests)
        for name in site.names()
        if name.startswith("steps/")
        for columns, digests in [site.pieces(name)]
    ]
    rows = {(row["step"], row["row"]): (pack, row) for pack in packs for row in pack["rows"]}
    for number in range(1, 14):
        for other in shown.step(number)["rows"]:
            pack, row = rows.pop((number, other["row"]))
            for name in ("epoch", "block", "start", "source"):
                assert row[name] == other[name]
            trained = [piece for piece in other["segments"] if piece["loss"] is not None]
            told = [pack["documents"][segment["document"]] for segment in row["segments"]]
            assert [one["id"] for one in told] == [piece["document"] for piece in trained]
            assert [one["licence"] for one in told] == [piece["licence"] for piece in trained]
            for segment, piece in zip(row["segments"], trained, strict=True):
                assert abs(segment["loss"] - piece["loss"]) <= 0.5 / LOSS
            read = "".join(
                text_of(site, one, segment["begin"], segment["end"])
                for one, segment in zip(told, row["segments"], strict=True)
            )
            # The row's first token is only an input, and document tokens are no text. A token may
            # end inside a character, which then belongs to the text before it.
            whole = "".join(piece["text"] for piece in other["segments"])
            whole = whole.replace("<|document|>", "").strip("\ufffd")
            assert len(read) > 10 and any(
                whole.endswith(part) for part in (read, read[1:], read[:-1], read[1:-1])
            )
    assert rows == {}


def test_steps_have_the_entries_of_the_ledger(finished: Path) -> None:
    site, ledger = Site(finished), LedgerFile(finished)
    told = [
        entry
        for name in site.names()
        if name.startswith("steps/")
        for columns, digests in [site.pieces(name)]
        for entry in reading.entries(json.loads(columns), digests)
    ]
    expected = list(ledger.between(0, 13))
    assert [entry["body"] for entry in told] == expected
    assert [entry["digest"] for entry in told] == [chain.digest_of_body(one) for one in expected]


def test_documents_show_every_time_that_sql_counts(finished: Path) -> None:
    site = Site(finished)
    rows = sql(finished, "SELECT document, step, row, tokens, loss_sum FROM segments").to_pylist()
    by_document: dict[int, list[Any]] = defaultdict(list)
    for row in rows:
        by_document[row["document"]].append(tuple(row.values())[1:])
    seen, tokenizer = 0, Shown(finished).tokenizer
    for pack in values(site, "documents"):
        for number, document in enumerate(reading.documents(pack), pack["first"]):
            own = sorted(by_document.get(number, []))
            times = sorted(
                (time["step"], time["row"], time["tokens"], time["loss"], time["branch"])
                for time in document["times"]
            )
            assert [time[:3] for time in times] == [time[:3] for time in own]
            for (*_, tokens, loss, branch), (*_, loss_sum) in zip(times, own, strict=True):
                assert abs(loss - loss_sum / tokens) <= 0.5 / LOSS and branch == 0
            seen += len(times)
            stored = Documents.open(finished).get(number)
            starts = [0, *(start for start, _ in tokenizer.offsets(stored["text"]))]
            for time in document["times"]:
                # Of a token that begins inside a character, pages count otherwise.
                assert starts[time["first"]] in (time["begin"], time["begin"] - 1)
            assert text_of(site, document, 0, stored["characters"]) == stored["text"]
            for name in ("id", "source", "licence", "origin", "date", "split", "bytes"):
                assert document[name] == stored[name]
            assert document["sha256"] == stored["sha256"]
    assert seen == len(rows) > 50


def test_the_overview_says_what_status_says(finished: Path) -> None:
    about, told = value(Site(finished), "overview"), status(finished)
    for name in ("head", "steps_done", "tokens", "checkpoints", "loss", "weights"):
        assert about[name] == told[name]
    first, *_, last = told["validation"]
    assert first["step"] < last["step"] and first["bits_per_byte"] > last["bits_per_byte"]
    named = {name: last[name] for name in ("step", "loss", "bits_per_byte")}
    assert about["validation"] == {
        "count": len(told["validation"]), "last": named, "best": named
    }  # fmt: skip
    assert sum(map(sum, about["lengths"].values())) == about["documents"] == 40
    assert "folder" not in about and str(finished) not in json.dumps(about)


@given(st.integers(1, 9000), st.integers(0, 2))
def test_a_bin_has_the_least_the_greatest_and_the_mean(steps: int, level: int) -> None:
    made = curves.Curves.__new__(curves.Curves)
    made.first, made.steps, made.abandoned = 7, steps, []
    own = np.sin(np.arange(steps) * 12.9898) * 43758.5453
    made.series = {"loss": own}
    read = [part for number in range(made.parts(level)) for part in [made.part(level, number)]]
    assert all(len(part["series"]["loss"]) <= curves.BINS for part in read)
    width = 4**level
    for part in read:
        for number, found in enumerate(part["series"]["loss"]):
            begin = part["first"] - 8 + number * width
            inside = own[begin : begin + width].tolist()
            if width == 1:
                assert found == pytest.approx(inside[0], rel=5e-7)
                continue
            mean = float(sum(map(Fraction, inside)) / len(inside))
            exact = [mean, min(inside), max(inside)]
            assert found == [pytest.approx(one, rel=5e-7, abs=1e-9) for one in exact]
    assert len(read) * curves.BINS * width >= steps
    assert curves.top(steps) == 0 or -(-steps // 4 ** (curves.top(steps) - 1)) > curves.BINS


def test_curves_are_the_table_of_steps(finished: Path) -> None:
    part = value(Site(finished), "curves/level0/00000")
    rows = sql(finished, "SELECT * FROM steps ORDER BY step").to_pylist()
    assert part["first"] == 1 and part["width"] == 1
    for name in ("loss", "lr", "grad_norm", "weight_norm", "tokens_per_second", "tokens"):
        assert part["series"][name] == [float(f"{row[name]:.7g}") for row in rows]
    source = rows[0] and next(name for name in part["series"] if name.startswith("loss of "))
    sums = sql(finished, "SELECT loss_sum / tokens AS loss FROM sources ORDER BY step").to_pylist()
    assert part["series"][source] == [float(f"{row['loss']:.7g}") for row in sums]


def test_a_long_text_goes_on_through_the_packs(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(texts, "PIECE", 100)
    monkeypatch.setattr(texts, "PACK", 250)
    folder = finish(make_run(tmp_path / "run", corpus), only="documents")
    made = texts.Texts(documents := Documents.open(folder), held=True)
    packs = [list(made.pieces(number)) for number in range(made.count)]
    assert made.count > 10
    for index in range(documents.count):
        stored = documents.get(index)
        place = np.array([[index], [0], [stored["characters"]]])
        own, told = made.places(*place)
        at = zip(
            itertools.accumulate(told["pack"]), itertools.accumulate(told["piece"]), strict=True
        )
        assert own["from"] == [0]
        assert "".join(packs[pack][piece].decode() for pack, piece in at) == stored["text"]


def test_places_are_those_of_the_files(finished: Path) -> None:
    """A page reads parts of files by them."""
    whole = Site(finished)
    for name in whole.names():
        if name.startswith("texts/"):
            whole.placed(name, content := packed(name, whole.pieces(name), whole.dictionary(name)))
    pack = value(whole, "documents/00000")
    for name, sizes in (("steps/00000", 16), ("documents/00000", 40)):
        told = value(whole, name)["pieces"]
        assert len(told["gap"]) == len(told["size"]) >= sizes
    end, pieces = 0, list(whole.pieces("texts/00000"))
    for gap, size, piece in zip(pack["pieces"]["gap"], pack["pieces"]["size"], pieces, strict=True):
        first, end = end + gap, end + gap + size + texts.APART
        opener = zlib.decompressobj(-15, zdict=whole.dictionary("texts/00000"))
        assert opener.decompress(base64.b64decode(content[first : first + size])) == piece


def test_texts_of_a_tokenizer_that_loses_them_are_shown_as_they_are(tmp_path: Path) -> None:
    """Its tokens have no bytes of their own: places come from encoding again."""
    corpus = write_corpus(tmp_path / "corpus")
    run = finish(make_run(tmp_path / "run", corpus, lossy([corpus], tmp_path)))
    site = Site(run)
    for columns, digests in [site.pieces(n) for n in site.names() if n.startswith("steps/")]:
        for row in reading.steps(json.loads(columns), digests)["rows"]:
            for before, after in itertools.pairwise(row["segments"]):
                if before["document"] == after["document"]:
                    assert before["end"] == after["begin"]
    covered = [
        time
        for pack in values(site, "documents")
        for one in reading.documents(pack)
        for time in one["times"]
    ]
    assert covered and all(0 <= time["begin"] <= time["end"] for time in covered)


@pytest.mark.parametrize("name", ["", "steps/1", "steps/00009", "../recipe", "documents/99999"])
def test_there_is_no_other_data_file(finished: Path, name: str) -> None:
    with pytest.raises(NoSuchFile):
        list(Site(finished).pieces(name))


def test_a_run_that_has_not_begun_has_an_overview(tmp_path: Path, corpus: Path) -> None:
    folder = make_run(tmp_path / "run", corpus)
    site = Site(folder)
    assert [*site.names()] == ["overview", "states", "curves/level0/00000"]
    about = value(site, "overview")
    assert about["head"] is None and not about["data_made"]


def emptied(folder: Path, kept: slice) -> None:
    """The table sequences with some of its rows."""
    path = folder / "metrics" / "sequences.parquet"
    table = pa.Table.from_batches(list(metrics.read(path, "sequences")))
    table = table.take(pa.array(range(len(table))[kept], pa.int64()))
    path.unlink()
    with parquet.writer(path, metrics.TABLES["sequences"]) as writer:
        writer.write_table(table)


def test_tables_that_do_not_fit_each_other_are_named(release: Path) -> None:
    emptied(release, slice(4, None))
    with pytest.raises(FormatInvalid, match="sequences"):
        Site(release).read_all()


def test_large_texts_are_left_out_unless_asked_for(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pellucid.site.data.TEXT_BYTES", 10)
    assert not [name for name in Site(finished).names() if name.startswith("texts/")]
    assert [name for name in Site(finished, texts=True).names() if name.startswith("texts/")]


def test_a_document_has_the_tokens_that_show_shows(finished: Path) -> None:
    shown, splits = Shown(finished), set[str]()
    for pack in values(Site(finished), "documents"):
        for document in reading.documents(pack):
            assert document["tokens"] == shown.document(document["id"])["tokens"] > 0
            splits.add(document["split"])
    assert splits == {"train", "validation"}


def test_states_are_those_of_the_ledger(finished: Path) -> None:
    """Each page reads the overview, so they are not in it."""
    ledger, site = LedgerFile(finished), Site(finished)
    told = {one["step"]: one for one in value(site, "states")}
    places = (layout.ANCHORS, layout.CHECKPOINTS)
    stored = {step for place in places for step in layout.steps_in(finished / place)}
    assert told.keys() == stored
    for step, one in told.items():
        assert (one["weights"], one["state"]) == tuple(
            ledger.step(step)[name] for name in ("weights", "state")
        )
    assert "states" not in value(site, "overview")


def test_the_overview_has_what_readme_and_recipe_say(finished: Path) -> None:
    about = value(Site(finished), "overview")
    assert f"of {about['parameters']:,} parameters" in (finished / "README.md").read_text()
    (source,) = about["sources"]
    assert (source["weight"], source["licence_by_record"]) == (1, False)


def test_a_site_made_whole_reads_the_sequences_once(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table in one row group would be unpacked for every pack."""
    whole, parts = Site(finished), values(Site(finished), "steps")
    whole.read_all()
    read = list[str]()
    monkeypatch.setattr("pellucid.store.metrics.rows", lambda _, name, *rest: read.append(name))
    assert value(whole, "steps/00000") == parts[0]
    assert read == []


def changed(folder: Path, name: str, change: Callable[[Any], None]) -> None:
    manifest = json.loads((folder / name).read_bytes())
    change(manifest)
    (folder / name).write_text(json.dumps(manifest))


HOSTILE = [
    ("data/manifest.json", lambda made: made["streams"][0].update(tokens=math.nan)),
    ("data/manifest.json", lambda made: made["streams"][0].update(source="\ud800")),
    ("data/documents/manifest.json", lambda made: made.update(parts=[])),
    ("data/documents/manifest.json", lambda made: made["sources"][0].pop("format")),
    ("data/documents/manifest.json", lambda made: made["sources"][0].pop("validation_documents")),
    ("data/documents/manifest.json", lambda made: made["sources"][0].update(name="other")),
    ("data/documents/manifest.json", lambda made: made["sources"][0].update(bytes=math.inf)),
]


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_manifests_that_no_run_writes_are_named(release: Path, number: int) -> None:
    changed(release, *HOSTILE[number])
    with pytest.raises(FormatInvalid):
        value(Site(release), "overview")


def test_segments_without_sequences_are_named(release: Path) -> None:
    emptied(release, slice(0, 0))
    with pytest.raises(FormatInvalid, match="sequences"):
        Site(release).read_all()


def test_sequences_whose_steps_do_not_ascend_are_named(release: Path) -> None:
    emptied(release, slice(None, None, -1))
    with pytest.raises(FormatInvalid, match="ascend"):
        Site(release).read_all()


@pytest.mark.parametrize("name", ["characters", "bytes"])
@pytest.mark.parametrize("size", [-1, 1 << 20, 1 << 40, (1 << 63) - 1])
def test_sizes_of_texts_that_the_manifest_does_not_allow_are_named(
    finished: Path, name: str, size: int
) -> None:
    """A site has pieces of texts by them: a few bytes would take any memory."""
    made = texts.Texts(Documents.open(finished), held=True)
    sizes = made.abouts.column(name).to_pylist()
    column = pa.array([size, *sizes[1:]], pa.int64())
    at = made.abouts.schema.get_field_index(name)
    made.__dict__["abouts"] = made.abouts.set_column(at, name, column)
    with pytest.raises(FormatInvalid, match="impossible sizes"):
        _ = made.count


@pytest.mark.parametrize("split", ["texts", "parts"])
def test_seams_are_the_ends_of_parts_that_follow_each_other(
    tmp_path: Path, corpus: Path, split: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seams, "SEAMS", 7)
    monkeypatch.setattr(data, "SEAMS", 7)
    settings = ["data.max_document_characters=120", f"data.split={split}"]
    run = finish(make_run(tmp_path / "run", corpus, settings))
    shown, site = Shown(run), Site(run)
    documents = [shown.documents.get(index) for index in range(shown.documents.count)]
    expected = []
    for one, other in itertools.pairwise(documents):
        (name, part), (next_name, next_part) = text_and_part(one["id"]), text_and_part(other["id"])
        if (name, part + 1, one["split"]) == (next_name, next_part, other["split"]) and part:
            expected.append([one["index"], one["text"][-64:], other["text"][:64]])
    packs = values(site, "seams")
    assert len(packs) == -(-len(expected) // 7) > 2
    own = [seam for pack in packs for seam in pack["seams"]]
    assert [[seam[0], *seam[3:]] for seam in own] == expected
    assert value(site, "overview")["seams"] == len(own)
    streams = (*shown.shards.train, *shown.shards.validation)
    for document, shard, end, *_ in own:
        entry = shown.shards.manifest["parts"][shard]
        (stream,) = [
            stream
            for stream in streams
            if (stream.source, stream.split) == (entry["source"], entry["split"])
        ]
        assert stream.token_of(document) + stream.length_of(document) == end
    with pytest.raises(NoSuchFile):
        list(site.pieces(f"seams/{len(packs):05d}"))
