"""Why something of a source is left out, or kept and changed: one table,
and the counts with examples."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from pellucid.data import recognise
from pellucid.recipe import Source

EXAMPLES = 3  # Names kept of each reason.


class Reason(NamedTuple):
    words: str
    # It enters the data root; others tell of a folder, or of a text's messages.
    of_content: bool = True
    kept: bool = False  # The document is there, with changes.
    quiet: bool = False  # As somebody asked for, or as everywhere: no warning.
    of_file: bool = False  # It is counted of a file, in formats whose files have many records too.


def _among(kind: str) -> Reason:
    """That a file of this kind is in a folder of others, and what to do."""
    about = recognise.KINDS[kind]
    advice = ": give it as a source of its own" if kind in recognise.READ_AS else ""
    advice = ": convert it" if about.target else advice
    return Reason(f"{about.words} among files of another format{advice}", of_file=True)


REASONS = {
    "hidden": Reason("the name begins with a dot", of_content=False, quiet=True, of_file=True),
    "link": Reason("a symbolic link", of_content=False, of_file=True),
    "not_a_file": Reason("not a plain file", of_content=False, of_file=True),
    "not_included": Reason("another ending or pattern", of_content=False, of_file=True),
    "foreign": Reason(
        "in another format: give it as a source of its own, or convert it",
        of_content=False,
        of_file=True,
    ),
    "elsewhere": Reason(
        "read by another source of the run", of_content=False, quiet=True, of_file=True
    ),
    "excluded": Reason("excluded by a pattern", of_content=False, quiet=True, of_file=True),
    "binary": Reason("binary", of_file=True),
    "duplicate": Reason("a duplicate text"),
    "empty": Reason("empty"),
    "invalid_utf8": Reason("not UTF-8"),
    "malformed": Reason("not in the format"),
    "no_text": Reason("no text under text_key, or a chat without any"),
    "no_id": Reason("no id under id_key: the record's number is used", kept=True),
    "no_licence": Reason("no licence under licence_key: the source's licence is used", kept=True),
    "no_origin": Reason("no origin under origin_key: the file's name is used", kept=True),
    "no_date": Reason("no date under date_key", kept=True),
    "chat_unread": Reason(
        "messages whose text is under another key than content or value, and is lost",
        of_content=False,
        kept=True,
    ),
    "chat_silent": Reason(
        "messages without text (null, a tool call, a picture): their role alone is kept",
        of_content=False,
        kept=True,
        quiet=True,
    ),
    "invalid_utf8_replaced": Reason("bytes that are not UTF-8 became U+FFFD", kept=True),
    "latin1_guessed": Reason("not UTF-8: Latin-1 guessed", kept=True, quiet=True),
    # Files of a folder that are in another format than its source's (data/recognise.py).
    **{name: _among(name) for name in recognise.KINDS},
}
OF_CONTENT = frozenset(name for name, reason in REASONS.items() if reason.of_content)


def report(source: Source, documents: int, size: int, left: LeftOut) -> dict[str, Any]:
    """What became of a source, for people and --json."""
    # What pip compiled, say, and modules without a line.
    usual = {"not_included", "empty"} if source.format == "package" else set()
    return {
        "source": source.name,
        "documents": documents,
        "texts": left.texts,
        "items": "files" if source.format in ("text", "package") else "records",
        "bytes": size,
        "replaced_bytes": left.replaced,
        "left_out": [
            {
                "reason": reason,
                "words": REASONS[reason].words,
                "kept": REASONS[reason].kept,
                "quiet": REASONS[reason].quiet or reason in usual,
                "of_file": REASONS[reason].of_file,
                "documents": left.counts[reason],
                "bytes": left.bytes[reason],
                "examples": list(left.examples.get(reason, ())),
            }
            for reason in REASONS
            if left.counts[reason]
        ],
    }


class LeftOut:
    """How many, how many bytes as far as known, and the first names, by reason."""

    def __init__(self) -> None:
        self.counts, self.bytes = Counter[str](), Counter[str]()
        self.examples: dict[str, tuple[str, ...]] = {}
        self.texts = 0  # That are kept: a document, or all parts of one.
        self.replaced = 0  # Bytes of kept documents that became U+FFFD.

    def add(self, reason: str, name: str, size: int = 0) -> None:
        self.counts[reason] += 1
        self.bytes[reason] += size
        if self.counts[reason] <= EXAMPLES:
            self.examples[reason] = (*self.examples.get(reason, ()), name)

    def state(self) -> dict[str, Any]:
        """A copy as plain values, from which restore() goes on."""
        return {
            "counts": dict(self.counts),
            "bytes": dict(self.bytes),
            "examples": dict(self.examples),
            "replaced": self.replaced,
            "texts": self.texts,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.counts.update(state["counts"])
        self.bytes.update(state["bytes"])
        self.examples = {reason: tuple(names) for reason, names in state["examples"].items()}
        self.replaced, self.texts = state["replaced"], state["texts"]


def describe(counts: dict[str, int]) -> str:
    """The drops for a reader: "binary: 2, empty: 1"."""
    return ", ".join(f"{reason}: {counts[reason]}" for reason in sorted(counts)) or "no files"
