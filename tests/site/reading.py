"""The data files of a site, as its pages read them: columns become rows again."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

from pellucid.site.data import Site
from pellucid.site.numbers import LOSS
from pellucid.site.texts import PIECE


def value(site: Site, name: str) -> Any:
    """The JSON of a data file, of which it is the first piece."""
    return json.loads(next(iter(site.pieces(name))))


def values(site: Site, room: str) -> list[Any]:
    return [value(site, name) for name in site.names() if name.startswith(f"{room}/")]


def rows_of(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def taken(rows: list[Any]) -> Callable[[int], list[Any]]:
    """Hands out the next rows."""
    left = iter(rows)
    return lambda count: list(itertools.islice(left, count))


def _summed(columns: dict[str, list[Any]], *names: str) -> dict[str, list[Any]]:
    return columns | {name: list(itertools.accumulate(columns[name])) for name in names}


def places(pack: dict[str, Any]) -> list[list[tuple[int, int]]]:
    """Of each document the packs and the pieces that hold what is told of it."""
    if "pieces" not in pack["documents"]:
        return [[] for _ in pack["documents"]["id"]]
    columns = _summed(pack["pieces"], "pack", "piece")
    following = taken(list(zip(columns["pack"], columns["piece"], strict=True)))
    return [following(count) for count in pack["documents"]["pieces"]]


def steps(pack: dict[str, Any], digests: bytes) -> dict[str, Any]:
    """rows with their segments, documents by number, entries."""
    segments = rows_of(_summed(pack["segments"], "document"))
    rows = rows_of(_summed(pack["rows"], "step", "row"))
    documents = dict.fromkeys(segment["document"] for segment in segments)
    about = rows_of({name: pack["documents"][name] for name in ("id", "licence")})
    known = {
        number: one | {"licence": pack["licences"][one["licence"]], "at": at}
        for number, one, at in zip(documents, about, places(pack), strict=True)
    }
    firsts = pack["documents"].get("from", [0] * len(known))
    for one, first in zip(known.values(), firsts, strict=True):
        one["from"] = first
    following = taken(segments)
    for row in rows:
        row["source"] = pack["sources"][row["source"]]
        row["segments"] = following(row["segments"])
        row["segments"][-1]["tokens"] += row["tokens"] - sum(
            segment["tokens"] for segment in row["segments"][:-1]
        )
        for segment in row["segments"]:
            segment["end"] = segment["begin"] + segment.pop("length")
            segment["loss"] = loss(segment["loss"])
    return {"rows": rows, "documents": known, "entries": entries(pack, digests)}


def loss(parts: int | None) -> float | None:
    return None if parts is None else parts / LOSS


def entries(pack: dict[str, Any], digests: bytes) -> list[dict[str, Any]]:
    following, before, told = taken(list(digests)), "", list[dict[str, Any]]()

    def stood(value: Any) -> Any:
        if value is None or value is False:
            return bytes(following(8 if value is False else 32)).hex()
        return before if value is True else value

    for shape, *given in pack["entries"]:
        own = bytes(following(32)).hex()
        body = dict(zip(pack["keys"][shape], [stood(value) for value in given], strict=True))
        told.append({"digest": own, "body": body})
        before = own
    return told


def documents(pack: dict[str, Any]) -> list[dict[str, Any]]:
    """Each with its times."""
    own, following = rows_of(pack["documents"]), taken(rows_of(pack["times"]))
    for document, at in zip(own, places(pack), strict=True):
        for name in ("source", "split", "licence"):
            document[name] = pack[f"{name}s"][document[name]]
        if document["origin"] is None:
            document["origin"] = document["id"].removeprefix(f"{document['source']}/")
        document |= {"bytes": document["characters"] + document["bytes"], "at": at, "from": 0}
        document["times"] = following(document["times"])
        before = tokens_before = 0
        for time in document["times"]:
            time["first"] += tokens_before
            tokens_before = time["first"] + time["tokens"]
            time["begin"] += before
            time["end"] = before = document["characters"] - time.pop("left")
            time["loss"] = loss(time["loss"])
    return own


def text_of(site: Site, place: dict[str, Any], begin: int, end: int) -> str:
    """The characters [begin, end) of a document."""
    packs = {pack: list(site.pieces(f"texts/{pack:05d}")) for pack, _ in place["at"]}
    text = "".join(packs[pack][piece].decode() for pack, piece in place["at"])
    first = place["from"] * PIECE
    return text[begin - first : end - first]
