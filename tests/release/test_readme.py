"""What stands in a README, and in the manifest: our part is ours, the rest the maker's, and
strings of others are no markup."""

from __future__ import annotations

import hashlib
import json
import re
import sys
import unicodedata
from pathlib import Path

import pytest

from pellucid.errors import FormatInvalid
from pellucid.look.status import status
from pellucid.new import new
from pellucid.release import readme
from pellucid.release.publish import publish
from pellucid.release.readme import escape
from pellucid.release.verify import verify
from pellucid.store import files, layout, sealed
from tests.conftest import SETTINGS, finish, make_run, prose, write_corpus
from tests.release.test_fields import MARK, found, in_readme, page, spelled

_UNSEEN = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")


def test_somebody_elses_strings_cannot_become_markup() -> None:
    assert not set(escape("<script>|[x](y)`*_\n#")) & set("<>|[]()`*_\n")
    for linked in (
        "https://a.example/`|<b>\\|",
        "WWW.1.2",
        "ask @somebody",
        "a.b@c.example",
        "example.org",
        "mailto:x",
    ):
        shown = escape(linked)
        assert (shown[0], shown[-1]) == ("`", "`") and not set(shown[1:-1]) & set("`|\\<>\n"), shown
    assert escape("CC-BY-4.0 und älter") == "CC-BY-4.0 und älter"


def test_a_string_in_the_readme_has_no_character_that_is_not_seen() -> None:
    unseen = [
        one for one in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(one) in _UNSEEN
    ]
    assert len(unseen) > 137_000
    assert not escape("x" + "".join(unseen)).removeprefix("x").strip(" ")
    kept = "Größe 東京 नमस्ते 𝒳 é £ € 😀 � A"
    assert escape(kept) == kept


@pytest.mark.parametrize("blank", ["\u2800", "\u3164", "\u200b", "\u3000", "\n", "\u115f\u1160"])
def test_a_string_that_looks_like_nothing_is_shown_as_what_it_is(blank: str) -> None:
    assert escape(blank) == " ".join(f"U+{ord(letter):04X}" for letter in blank)
    assert "U+2800" in escape("MIT\u2800")


def test_a_licence_by_record_is_no_licence_of_the_source(
    tmp_path: Path,
) -> None:
    """Each document counts under its own licence, and no licence spells a row of the page."""
    licences = ["MIT", "MIT", "others", "*other licences*", "unknown", "Unknown ", " UNKNOWN"]
    rows = [
        {"text": prose(n, 60), "licence": licences[n] if n < len(licences) else f"L-{n % 7}"}
        for n in range(48)
    ]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    keys = ["data.sources.t.licence_key=licence", "data.sources.t.licence=CC0-1.0"]
    folder = make_run(tmp_path / "run", tmp_path / "t.jsonl", [*SETTINGS, *keys])
    finish(folder)
    assert publish(folder)["unlicensed"] == {"t": 3}
    page = (folder / "README.md").read_text()
    assert "| t | *by record* | 48 |" in page and "CC0-1.0" not in page
    counts = dict(re.findall(r"^\| ([^|]+) \| ([\d,]+) \| [\d,]+ \| [\d,]+ \|$", page, re.M))
    assert counts["unknown"] == "3" and counts["MIT"] == "2" and "*other licences*" in counts
    assert sum(map(int, counts.values())) == 48
    assert verify(folder, lambda what: None).ok


def test_what_the_maker_writes_around_the_record_stays(release: Path) -> None:
    page(
        lambda text: (
            f"---\nlicense: mit\n---\n# Mine\n\n{text[text.index('<!--') :]}\n\nMore of it.\n"
        )
    )(release)
    written = (release / "README.md").read_bytes()
    assert found(release) == []
    publish(release)
    assert (release / "README.md").read_bytes() == written
    assert verify(release, lambda what: None).ok


def test_the_last_validation_stands_by_source_beside_the_sum(corpus: Path, tmp_path: Path) -> None:
    """A source that got worse does not hide behind another."""
    other = write_corpus(tmp_path / "pebbles", 20, 90)
    folder = tmp_path / "two"
    new(folder, [str(corpus), str(other)], "1M", SETTINGS)
    publish(finish(folder))
    assert verify(folder, lambda what: None).ok
    last = status(folder)["validation"][-1]
    assert [one["source"] for one in last["sources"]] == ["stones", "pebbles"]
    lines = (folder / "README.md").read_text().splitlines()
    for one in last["sources"]:
        numbers = f"{one['tokens']:,} | {one['loss']:.4f} | {one['bits_per_byte']:.4f}"
        assert f"| {one['source']} | {numbers} |" in lines


def test_marks_that_hold_no_part_are_the_makers_to_mend(release: Path) -> None:
    in_readme(MARK, f"{MARK} more")(release)
    before = (release / "README.md").read_bytes()
    with pytest.raises(FormatInvalid, match="remove all marks"):
        publish(release)
    assert (release / "README.md").read_bytes() == before


def test_what_stands_around_the_record_stays_byte_for_byte(release: Path) -> None:
    around = b"\xff\r\n\xe2\x80\xa8" + (release / "README.md").read_bytes() + b"\n\x85"
    spelled(release / "README.md", around)
    publish(release)
    assert (release / "README.md").read_bytes() == around and verify(release, lambda what: None).ok


def test_a_page_of_ones_own_gets_our_part_behind_it(release: Path) -> None:
    files.write_text(release / "README.md", "# Mine\n")
    publish(release)
    assert (release / "README.md").read_text().startswith("# Mine\n\n<!-- pellucid")
    assert verify(release, lambda what: None).ok


def test_the_template_is_the_one_that_the_manifest_names(
    release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later version writes another page, and still checks an earlier one by its own template."""
    later = readme.VERSION + 1
    monkeypatch.setattr(readme, "VERSION", later)
    monkeypatch.setitem(readme._TEMPLATES, later, lambda folder: "# Otherwise\n")
    assert verify(release, lambda what: None).ok
    publish(release)
    assert "# Otherwise" in (release / "README.md").read_text()
    assert sealed.read(release).readme == later
    assert verify(release, lambda what: None).ok
    monkeypatch.delitem(readme._TEMPLATES, later)
    report = verify(release, lambda what: None)
    assert [problem.error for problem in report.problems] == ["FormatTooNew"]


_README = b'"readme":%d' % readme.VERSION


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'"run":"small"', b'"run":"other"'),
        (b'{"pellucid":1,', b'{"pellucid":1, '),
        (b'{"pellucid":1,', b'{"pellucid":1,"pellucid":1,'),
        (b'{"path":"LICENSE",', b'{"path":"x","path":"LICENSE",'),
        (b'{"path":"LICENSE",', b'{"note":"x","path":"LICENSE",'),
        (_README, b'"readme":true'),
        (b"," + _README, b""),
    ],
)
def test_another_spelling_of_the_manifest_is_found(
    before: bytes, after: bytes, release: Path
) -> None:
    lines = (
        (release / layout.MANIFEST)
        .read_bytes()
        .replace(before, after)
        .splitlines(keepends=True)[:-1]
    )
    last = sealed.line_of({"sha256": hashlib.sha256(b"".join(lines)).hexdigest()})
    (release / layout.MANIFEST).write_bytes(b"".join(lines) + last)
    problems = verify(release, lambda what: None).problems
    assert ("FormatInvalid", layout.MANIFEST) in [(one.error, one.where) for one in problems]
