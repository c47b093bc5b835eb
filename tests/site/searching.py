"""What the page "search" finds, in the form of what `where` tells."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from pellucid.data.parquet import Documents
from pellucid.trace.where import Traced

MOST = 1000  # Of a text with more places, ten are told.
SIZES = (1, 2, 3, 4, 5, 8, 13, 20, 33, 60, 130, 400)  # Characters of a phrase.
_ASK = """async ([text, most]) => {
  const found = await foundOf(await value("overview"), text);
  const hits = await found.hits.next(found.hits.often ? 10 : most);
  return {count: found.count, validation: found.validation, hits};
}"""
# Answers reach the page together, when nothing that was asked for is on its way.
HOLD = """() => {
  window.held = {coming: 0, answers: [], rounds: 0, free: false, timer: 0};
  const settle = () => {
    clearTimeout(held.timer);
    held.timer = setTimeout(() => {
      if (held.coming || !held.answers.length) return;
      held.rounds += 1;
      held.answers.splice(0).forEach((answer) => answer());
    }, 6);
  };
  const holding = (ask) => async function (...asked) {
    if (held.free) return ask.apply(this, asked);
    held.coming += 1;
    try {
      return await ask.apply(this, asked);
    } finally {
      held.coming -= 1;
      await new Promise((answer) => { held.answers.push(answer); settle(); });
    }
  };
  Reader.prototype.fetch = holding(Reader.prototype.fetch);
  window.requested = holding(window.requested);
}"""
_NAMED = ("document", "index", "source", "licence", "origin", "date", "offset", "context")


def phrases(documents: Documents, number: int, seed: int) -> Iterator[str]:
    """Parts of the texts, over the ends of documents too; every sixth with another end."""
    draw = random.Random(seed)
    while number:
        first = draw.randrange(documents.count)
        pair = range(first, min(first + 2, documents.count))
        text = "".join(documents.get(index)["text"] for index in pair)
        begin, size = draw.randrange(len(text)), draw.choice(SIZES)
        phrase = text[begin : begin + size]
        phrase = phrase[:-1] + draw.choice("qé京") if draw.random() < 1 / 6 else phrase
        if "\0" not in phrase:
            yield phrase
            number -= 1


def answered(page: Any, phrase: str, most: int = MOST) -> dict[str, Any]:
    """What the page finds, with the first places."""
    found = page.evaluate(_ASK, [phrase, most])
    return {**found, "hits": [_hit(hit, map(tuple, hit["steps"])) for hit in found["hits"]]}


def expected(traced: Traced, phrase: str, most: int = MOST) -> dict[str, Any]:
    """The same from `where`."""
    about = traced.where(phrase, limit=most)
    if about["count"] > MOST:
        about["hits"] = about["hits"][:10]
    hits = []
    for hit in about["hits"]:
        times = [time for place in (hit, *hit["continues"]) for time in place["steps"]]
        hits.append(_hit(hit, {(time["step"], time["row"]) for time in times}))
    return {**about, "hits": hits}


def _hit(hit: dict[str, Any], steps: Any) -> dict[str, Any]:
    return {name: hit[name] for name in _NAMED} | {"steps": sorted(steps)}
