"""Which licences are open, and what does not fit."""

from __future__ import annotations

import pytest

from pellucid.cards.licences import Counted, conflicts, is_open


@pytest.mark.parametrize(
    "licence",
    [
        "MIT",
        "apache-2.0",
        "CC-BY-4.0",
        "MIT OR Proprietary",
        "MIT AND CC0-1.0",
        "GPL-3.0-only WITH Classpath-exception-2.0",
        "(MIT OR Apache-2.0) AND BSD-3-Clause",
    ],
)
def test_open(licence: str) -> None:
    assert is_open(licence)


@pytest.mark.parametrize(
    "licence",
    [
        "",
        "unknown",
        "MIT AND Proprietary",
        "CC-BY-NC-4.0",
        "CC-BY-ND-4.0",
        "mit-like",
        "(MIT OR Proprietary)",
        "OR",
        "WITH MIT",
        "()",
        "llama3.1",
        "CC-BY-4.0 but not for training",
    ],
)
def test_not_open(licence: str) -> None:
    assert not is_open(licence)


def test_what_does_not_fit_is_told() -> None:
    texts = [Counted("MIT", 3), Counted("CC-BY-NC-4.0", 1), Counted("CC-BY-SA-4.0", 2)]
    told = conflicts("Apache-2.0", texts, 5)
    assert len(told) == 3
    assert "5 documents is unknown" in told[0]
    assert told[1].startswith("1 document under CC-BY-NC-4.0") and "open" in told[1]
    assert told[2].startswith("2 documents under CC-BY-SA-4.0") and "Apache-2.0" in told[2]
    assert conflicts("CC-BY-SA-4.0", [texts[0], texts[2]], 0) == []
    assert "no licence that is said" in conflicts(None, [texts[2]], 0)[0]
