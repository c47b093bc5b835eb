"""How the pages read: sentences, their length, and the words that open them.

    python -m tests.english [PAGE …]

A sentence that opens with What, Who, Where, It, One, Others or Nothing usually keeps its subject
for later. The share of such sentences, and the mean length, say nothing about good English;
a page that exceeds the limits of test_english.py reads badly."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
WEAK = {"What", "Who", "Where", "It", "One", "Others", "Nothing"}


@dataclass(frozen=True)
class Reading:
    """Sentences of a page, the words in them, and how many of them open weakly."""

    sentences: int
    words: int
    weak: int

    @property
    def share(self) -> float:
        """Of sentences that open weakly, in percent."""
        return 100 * self.weak / max(1, self.sentences)

    @property
    def length(self) -> float:
        """Mean words a sentence."""
        return self.words / max(1, self.sentences)


def paragraphs(markdown: str) -> list[str]:
    """Prose and list items, each on one line: no code, no tables, no headings."""
    text = re.sub(r"^ *(`{3,}).*?^ *\1 *$", "\n", markdown, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"^(#.*|\|.*|    .*)$", "", text, flags=re.MULTILINE)
    text = re.sub(r"^ *([-*]|\d+\.) +", "\n\n", text, flags=re.MULTILINE)
    return [" ".join(block.split()) for block in re.split(r"\n\s*\n", text) if block.strip()]


def sentences(markdown: str) -> list[str]:
    """Of a page's prose, links as their words, code as one word."""
    out = []
    for block in paragraphs(markdown):
        plain = re.sub(r"`[^`]*`", "code", block)
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", plain).replace("*", "")
        out += re.split(r"(?<=[.!?:])[)\"”]? +(?=[A-Z“\"(])", plain)
    return [sentence for sentence in out if len(sentence.split()) > 2]


def read(markdown: str) -> Reading:
    """Counts of a page."""
    all_of_them = sentences(markdown)
    opening = [re.sub(r"^\W+", "", sentence).split()[0].strip(",;:") for sentence in all_of_them]
    return Reading(
        len(all_of_them),
        sum(len(sentence.split()) for sentence in all_of_them),
        sum(word in WEAK for word in opening),
    )


def pages() -> list[Path]:
    """README, CONTRIBUTING and the like, and every page under docs/ but decisions and the log."""
    named = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
    return sorted(path for path in named if path.name not in ("log.md", "CHANGELOG.md"))


def main(names: list[str]) -> None:
    for path in map(Path, names) if names else pages():
        reading = read(path.read_text("utf-8"))
        print(
            f"{path.name:20} {reading.sentences:5} sentences  {reading.length:5.1f} words  "
            f"{reading.share:5.1f}% open weakly"
        )
        if names:
            for sentence in sentences(path.read_text("utf-8")):
                if re.sub(r"^\W+", "", sentence).split()[0].strip(",;:") in WEAK:
                    print("   ", sentence[:150])


if __name__ == "__main__":
    main(sys.argv[1:])
