"""gzip and xz beside the validation: sizes of the same texts, which a check packs again."""

from __future__ import annotations

import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import pytest

from pellucid.look import baselines as packing
from pellucid.look.status import status
from pellucid.new import new
from pellucid.site import baselines
from pellucid.site.check import check
from pellucid.site.data import NoSuchFile, Site
from pellucid.site.pack import canonical, packed
from tests.conftest import SETTINGS, finish, make_run, write_corpus
from tests.site.conftest import watched


def said(folder: Path) -> dict[str, Any]:
    return json.loads(next(Site(folder).pieces("baselines")))


def wrong(folder: Path, *pieces: bytes) -> list[tuple[str, str]]:
    """What check says of other pieces in place of the file's."""
    (folder / "site/data/baselines.js").write_bytes(packed("baselines", pieces))
    return [(problem.error, problem.where) for problem in check(folder)]


def with_data(folder: Path) -> Path:
    """A run whose data are made, and nothing else."""
    for stage in ("documents", "tokenizer", "shards"):
        finish(folder, stage)
    return folder


REFUSED = [("FileDiffers", "site/data/baselines.js")]


def test_they_pack_the_texts_that_validation_counts(finished: Path) -> None:
    content, of = packing.validated(finished)
    (last,) = status(finished)["validation"][-1]["sources"]
    assert said(finished) == {
        "bytes": last["bytes"],
        "of": last["bytes"],
        "gzip": len(gzip.compress(content, 9, mtime=0)),
        "xz": len(lzma.compress(content, preset=6 | lzma.PRESET_EXTREME)),
    }
    assert len(content) == of == last["bytes"]


def test_of_much_text_each_source_gives_an_equal_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = [write_corpus(tmp_path / name, 40, words) for name, words in (("a", 60), ("b", 61))]
    new(tmp_path / "run", list(map(str, sources)), "1M", SETTINGS)
    run = with_data(tmp_path / "run")
    whole, of = packing.validated(run)
    monkeypatch.setattr(packing, "MOST", 501)
    content, still = packing.validated(run)
    assert (len(content), still) == (500, of) and len(whole) == of > 501
    assert whole.startswith(content[:250]) and content[250:] in whole


@pytest.mark.parametrize(
    ("size", "most"), [(100, 16), (799, 16), (10_000, 200), (25_000, 500), (1_000_000, 20_000)]
)
def test_another_library_may_pack_into_a_little_more_or_less(size: int, most: int) -> None:
    own = {"bytes": 10**7, "of": 10**7, "gzip": size, "xz": size}
    for name in ("gzip", "xz"):
        for more, fits in ((most, True), (-most, True), (most + 1, False), (-most - 1, False)):
            other = own | {name: size + more}
            assert baselines.agrees([canonical(other)], [canonical(own)]) is fits


@pytest.mark.parametrize("change", [{"gzip": 9999}, {"xz": 1}, {"bytes": 1}, {"of": 0}])
def test_an_edited_size_is_refused(release: Path, change: dict[str, int]) -> None:
    own = said(release)
    assert wrong(release, canonical(own | {"gzip": own["gzip"] + 3})) == []
    assert wrong(release, canonical(own | change)) == REFUSED


def test_anything_else_in_the_file_is_refused(release: Path) -> None:
    own = said(release)
    right, float_size = canonical(own), canonical(own | {"gzip": float(own["gzip"])})
    forms = [
        [right + b" "],
        [right, b""],
        [right.replace(b'"gzip"', b'"xz":1,"gzip"')],
        [float_size],
        [right.replace(b'"of"', b'"on"')],
        [canonical(list(own.values()))],
        [b"[" * 900],
        [b"\xff" + right],
        [canonical({name: own[name] for name in sorted(own)})],
    ]
    for pieces in forms:
        assert wrong(release, *pieces) == REFUSED, pieces


def test_a_run_without_validation_has_none(tmp_path: Path, corpus: Path) -> None:
    site = Site(with_data(make_run(tmp_path / "run", corpus)))
    assert "tokenizer" in set(site.names())
    assert "baselines" not in set(site.names())
    with pytest.raises(NoSuchFile):
        list(site.pieces("baselines"))


def test_the_pages_show_them_beside_the_curve(browser: Any, finished: Path) -> None:
    own = said(finished)
    expected = f"gzip {8 * own['gzip'] / own['bytes']:.3f}"
    with watched(browser, finished, "file") as at:
        for name in ("index.html", "timeline.html"):
            page = at.open(name)
            assert page.locator(".level text").first.text_content() == expected
            label = page.locator("svg.chart:has(.level)").get_attribute("aria-label")
            assert f"gzip {8 * own['gzip'] / own['bytes']:.4f}" in label
            assert f"the same {own['bytes']:,} bytes of text" in page.locator("main").inner_text()
        assert at.wrong == []
