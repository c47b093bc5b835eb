"""A server of a release is not believed: what it says otherwise is named, and costs little."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pellucid.errors import (
    AnswerInvalid,
    FileMissing,
    FormatInvalid,
    PathUnsafe,
    PellucidError,
    RangesMissing,
    RemoteChanged,
    RemoteDiffers,
    Unreachable,
)
from pellucid.look.status import status
from pellucid.store import arrays, layout, served
from pellucid.store.home import home
from pellucid.store.remote import RemotePath
from tests.serving import Answer, Request, Serving
from tests.store.conftest import SHARD, lying, noise, spelled


def moved(request: Request, honest: Answer) -> Answer:
    return honest._replace(
        headers={**honest.headers, "Content-Range": f"bytes 1-{request.stop}/{1 << 20}"}
    )


FAULTS: dict[str, tuple[type[PellucidError], Callable[[Request, Answer], Answer]]] = {
    "other bytes": (RemoteDiffers, lambda r, a: a._replace(body=bytes(len(a.body)))),
    "a byte too many": (AnswerInvalid, lambda r, a: a._replace(body=a.body + b"x")),
    "a byte too few": (AnswerInvalid, lambda r, a: a._replace(body=a.body[:-1])),
    "a cut line": (Unreachable, lambda r, a: a._replace(cut=7)),
    "another range": (AnswerInvalid, moved),
    "no range named": (AnswerInvalid, lambda r, a: a._replace(headers={})),
    "another size": (
        RemoteChanged,
        lambda r, a: a._replace(headers={"Content-Range": f"bytes 0-{r.stop - 1}/999999"}),
    ),
    "shorter than it was": (RemoteChanged, lambda r, a: Answer(416, {}, b"")),
    "gone": (FileMissing, lambda r, a: Answer(404, {}, b"")),
    "forbidden": (Unreachable, lambda r, a: Answer(403, {}, b"")),
    "broken": (Unreachable, lambda r, a: Answer(503, {}, b"")),
    "compressed": (
        AnswerInvalid,
        lambda r, a: a._replace(headers={**a.headers, "Content-Encoding": "gzip"}),
    ),
    "round in circles": (Unreachable, lambda r, a: Answer(302, {"Location": f"/{SHARD}"}, b"")),
    "to a file here": (
        Unreachable,
        lambda r, a: Answer(302, {"Location": "file:///etc/passwd"}, b""),
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_server_that_lies_is_named(server: Serving, name: str) -> None:
    error, fault = FAULTS[name]
    server.fault = lying(fault)
    with pytest.raises(error, match=re.escape(SHARD)):
        (home(server.url) / SHARD).read_bytes()


def test_a_server_without_ranges_is_named(finished: Path, server: Serving) -> None:
    server.fault = lambda request, honest: Answer(200, {}, (finished / request.path).read_bytes())
    far = home(server.url)
    assert isinstance(far, RemotePath)
    # The whole of it is what was asked for.
    assert (far / SHARD).read_bytes() == (finished / SHARD).read_bytes()
    with pytest.raises(RangesMissing):
        far.served._transport.ranges(SHARD, [(0, 10)], (finished / SHARD).stat().st_size)


def test_what_changes_while_it_is_read_is_named(serve: Callable[..., Any]) -> None:
    place, server = serve(ids=noise(1 << 20))
    ids = arrays.mapped(place / "ids", "u1")
    assert len(ids[:10]) == 10
    os.utime(server.folder / "ids", ns=(1, 1))
    with pytest.raises(RemoteChanged, match="ETag"):
        ids[500_000:500_010]


def test_a_fault_that_passes_is_outlived(server: Serving, finished: Path) -> None:
    requests = []

    def twice(request: Request, honest: Answer) -> Answer:
        requests.append(request)
        return (
            [Answer(503, {}, b""), honest._replace(cut=5)][len(requests) - 1]
            if len(requests) < 3
            else honest
        )

    server.fault = lying(twice)
    assert (home(server.url) / SHARD).read_bytes() == (finished / SHARD).read_bytes()
    assert len(requests) == 3


def test_an_answer_without_end_is_cut(server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "MANIFEST", 1000)
    with pytest.raises(FormatInvalid, match="larger than 1000"):
        home(server.url)


def manifest_of(path: str, size: Any, sha256: str = "0" * 64) -> bytes:
    first = {"pellucid": 1, "run": "x", "head": "0" * 64, "files": 1, "readme": 1}
    return spelled([first, {"path": path, "size": size, "sha256": sha256}])


@pytest.mark.parametrize(
    ("path", "size", "error"),
    [
        ("../outside", 1, PathUnsafe),
        ("/etc/passwd", 1, PathUnsafe),
        ("a//b", 1, PathUnsafe),
        ("recipe.toml", -1, FormatInvalid),
        ("recipe.toml", 1 << 60, FormatInvalid),
        ("recipe.toml", "1", FormatInvalid),
    ],
)
def test_a_manifest_is_not_believed(
    server: Serving, path: str, size: Any, error: type[PellucidError]
) -> None:
    content = manifest_of(path, size)
    server.fault = lying(lambda request, honest: Answer(200, {}, content), layout.MANIFEST)
    with pytest.raises(error):
        home(server.url)


def test_a_size_of_terabytes_fills_no_memory(server: Serving) -> None:
    content = manifest_of("recipe.toml", 1 << 42)
    server.fault = lying(lambda request, honest: Answer(200, {}, content), layout.MANIFEST)
    with pytest.raises(PellucidError):
        status(home(server.url))
    assert server.sent < 1 << 20
