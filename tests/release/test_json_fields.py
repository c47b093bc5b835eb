"""JSON files of a release, field by field: none may say anything
else, and each has one spelling."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pellucid.data.roots import recompute_root
from pellucid.recipe import load
from pellucid.release.states import States
from pellucid.store import files
from pellucid.store.ledger import LedgerFile
from tests.release.test_fields import found, spelled

JSONS = [
    "config.json",
    "checkpoints/step6/generation_config.json",
    "checkpoints/step6/tokenizer_config.json",
    "checkpoints/step12/pellucid.json",
    "anchors/step5/anchor.json",
    "data/documents/manifest.json",
    "data/tokenizer/manifest.json",
    "data/shards/manifest.json",
    "data/manifest.json",
    "trace/manifest.json",
]


# What nothing binds: the digest of what a stage was made from, and the versions it was
# made with. They have a form.
SAID = {f"data/{one}/manifest.json: recipe" for one in ("documents", "tokenizer", "shards")}
SAID |= {
    f"data/documents/manifest.json: made_with.{one}" for one in ("python", "pyarrow", "unicode")
}
SAID |= {"data/tokenizer/manifest.json: made_with.tokenizers"}


def fields(value: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(dotted name, what holds it, its key) of every field; of a list its last item."""
    inner = (
        value.items()
        if isinstance(value, dict)
        else list(enumerate(value))[-1:]
        if isinstance(value, list)
        else ()
    )
    for key, one in inner:
        dotted = f"{name}.{key}" if name else str(key)
        yield dotted, value, key
        yield from fields(one, dotted)


def other(value: Any) -> Any:
    """Another value of the same type and form."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str) and value:
        return ("1" if value[0] != "1" else "2") + value[1:]
    return (
        {"more": 1} if isinstance(value, dict) else ["more"] if isinstance(value, list) else "more"
    )


def problems_of(folder: Path, name: str) -> list[str]:
    """What the one check says that reads a file: the whole of verify would
    take minutes for all fields."""
    if name.startswith("data/"):
        return [f"{where}: {detail}" for where, detail in recompute_root(folder, load(folder))[1]]
    states, ledger, place = States(folder), LedgerFile(folder), name.rpartition("/")[0]
    step = int(place.rpartition("step")[2] or ledger.steps_done)
    if place.startswith("anchors"):
        return [one.detail for one in states._anchor(ledger.step(step), place)]
    root = next(body["root"] for body in ledger.of_kind("checkpoint") if body["step"] == step)
    return [one.detail for one in states._checkpoint(ledger.step(step), place, root)]


@pytest.mark.parametrize("name", [one for one in JSONS if not one.startswith("trace")])
def test_no_field_may_say_anything_else(name: str, release: Path) -> None:
    """Each changed alone, null, of another type, and empty."""
    path = release / name
    original, missed = path.read_bytes(), set()
    for number, (dotted, _, _) in enumerate(fields(json.loads(original))):
        if name.startswith("anchors") and dotted.count(".") == 2 and number % 9:
            continue  # The leaves of the tensors, some of them.
        for change in (other, lambda _: None, lambda value: [value], lambda _: ""):
            value = json.loads(original)
            _, place, key = next(one for one in fields(value) if one[0] == dotted)
            if place[key] == (changed := change(place[key])):
                continue
            place[key] = changed
            path.unlink()
            files.write_json(path, value)
            if not problems_of(release, name):
                missed.add(f"{name}: {dotted}")
                assert change is other, missed
    assert missed == {one for one in SAID if one.startswith(name)}


@pytest.mark.parametrize("name", JSONS)
def test_a_key_twice_another_key_and_another_spelling_are_found(name: str, release: Path) -> None:
    content = (release / name).read_bytes()
    value = json.loads(content)
    key = next(iter(value))
    changed = {
        "twice": content.replace(
            b"{\n", b"{\n" + f'  "{key}": {json.dumps(other(value[key]))},\n'.encode(), 1
        ),
        "more": files.json_bytes({**value, "more": 1}),
        "order": files.json_bytes(dict(reversed(value.items()))),
        "spaces": json.dumps(value).encode(),
        "breaks": content.replace(b"\n", b"\r\n"),
    }
    for one, new in changed.items():
        spelled(release / name, new)
        assert any(
            name in problem or name.rpartition("/")[0] in problem for problem in found(release)
        ), one
