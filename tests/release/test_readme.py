"""Strings of others in the README: nothing in them is markup, and nothing is unseen."""

from __future__ import annotations

import sys
import unicodedata

from pellucid.release.readme import escape

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
    assert len(unseen) > 137_000 and not escape("".join(unseen)).strip(" ")
    kept = "Größe 東京 नमस्ते 𝒳 é £ € 😀 � A"
    assert escape(kept) == kept
