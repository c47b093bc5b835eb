"""What stored states write behind the same prompts, one beside the other.

Prompts and states follow from the record by rule. The texts need the model: whoever publishes
computes them, and an audit computes them again (look/samples.py). verify compares all but them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pellucid.data.documents import Documents
from pellucid.errors import FileMissing, FormatInvalid
from pellucid.site.pack import canonical, unpacked
from pellucid.store import files, layout

NAME = "samples"
MOST = 1 << 20  # Bytes of the file's piece.
TOKENS = 32  # Of a text, at most.
_STATES = 8
_PROMPTS = 3
_PARAMETERS = 100_000_000  # Of a larger model each text takes minutes.
_WORDS, _LETTERS = 6, 40  # Of a prompt, at most.
_ASKED = 100  # Documents in which prompts are looked for.
_SPACE = re.compile("[\t\n\v\f\r ]+")
# Letters that a terminal obeys, or that nobody sees. Named, for versions of Unicode know others.
_UNSEEN = re.compile(
    "[\0-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e0fff]"
)


class Plan(NamedTuple):
    """Which prompts which states go on from: the likeliest tokens, so many at most."""

    tokens: int
    prompts: list[str]
    steps: list[int]

    def filled(self, texts: list[list[str]]) -> dict[str, Any]:
        """What the file holds. texts: of each state, one for each prompt."""
        states = [{"step": step, "texts": own} for step, own in zip(self.steps, texts, strict=True)]
        return {"tokens": self.tokens, "prompts": self.prompts, "states": states}


def plan(folder: Path, overview: dict[str, Any]) -> Plan | None:
    """Of a run with this overview; None where nobody could compute the same texts, or not soon."""
    portable = overview["arithmetic"] == "portable"
    if not (portable and overview["data_made"] and overview["parameters"] <= _PARAMETERS):
        return None
    first, last = overview["first"], overview["steps_done"]
    steps = _spread([step for step in overview["anchors"] if first <= step <= last])
    prompts = list(itertools.islice(_prompts(folder), _PROMPTS))
    return Plan(TOKENS, prompts, steps) if prompts and steps else None


def _spread(steps: list[int]) -> list[int]:
    """At most _STATES of the steps, with the first and the last one."""
    last, gaps = len(steps) - 1, _STATES - 1
    return steps if last <= gaps else [steps[last * at // gaps] for at in range(_STATES)]


def _prompts(folder: Path) -> Iterator[str]:
    """The first words of the first validation documents, each once."""
    known = set()
    for text in itertools.islice(_texts(folder), _ASKED):
        words = [word for word in _SPACE.split(text[:1000]) if word]
        count = max(n for n in range(1, _WORDS + 1) if n == 1 or _length(words[:n]) <= _LETTERS)
        prompt = " ".join(words[:count])[:_LETTERS]
        if prompt and prompt not in known and not _UNSEEN.search(prompt):
            known.add(prompt)
            yield prompt


def _length(words: list[str]) -> int:
    return len(" ".join(words))


def _texts(folder: Path) -> Iterator[str]:
    for batch in Documents.open(folder).rows(["text"], split="validation"):
        yield from batch.column("text").to_pylist()


def blank(plan: Plan) -> list[list[str]]:
    """No texts, for who compares all but them."""
    return [[""] * len(plan.prompts) for _ in plan.steps]


def agrees(pieces: list[bytes], expected: list[bytes]) -> bool:
    """Whether a file is as planned, whatever its texts are. expected: with blank ones."""
    return _texts_of(pieces, files.parse_json(expected[0])) is not None


def shown(folder: Path, overview: dict[str, Any]) -> Plan:
    """The plan of the samples that a site has. Raises FileMissing, also where no run has any."""
    planned = plan(folder, overview)
    if planned is None:
        raise FileMissing(path=_place(folder))
    return planned


def _place(folder: Path) -> Path:
    return folder / layout.SITE / "data" / f"{NAME}.js"


def published(folder: Path, plan: Plan) -> list[list[str]]:
    """The texts that a site shows. Raises FormatInvalid where they are not those of the plan,
    FileMissing."""
    path = _place(folder)
    pieces = unpacked(files.read_bytes(path, 2 * MOST), NAME, MOST, path)
    texts = _texts_of(pieces, plan.filled(blank(plan)))
    if texts is None:
        raise FormatInvalid(path=path, detail="has other prompts or states than the record gives")
    return texts


def _texts_of(pieces: list[bytes], expected: dict[str, Any]) -> list[list[str]] | None:
    """The texts of a file that is as expected but for them; None of another."""
    try:
        (piece,) = pieces
        texts = [state["texts"] for state in files.parse_json(piece)["states"]]
        states = [
            state | {"texts": own} for state, own in zip(expected["states"], texts, strict=True)
        ]
        same = canonical(expected | {"states": states}) == piece
        lists = all(type(own) is list for own in texts)
        sizes = {len(own) for own in texts}
        kinds = {type(text) for own in texts for text in own}
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    fits = same and lists and kinds == {str} and sizes == {len(expected["prompts"])}
    return texts if fits else None
