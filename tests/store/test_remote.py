"""Releases behind a URL: what they give is what the folder gives, few bytes move,
and a server is not believed."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from pellucid.cli import app
from pellucid.cli.common import folder_only
from pellucid.data.documents import Documents
from pellucid.errors import (
    DiskFull,
    DriverMissing,
    FileMissing,
    FolderNeeded,
    FormatInvalid,
    ReleaseMissing,
    RemoteChanged,
    Unreachable,
    UrlInvalid,
)
from pellucid.look.show import Shown
from pellucid.look.status import status
from pellucid.store import anchors, arrays, layout, metrics, parquet, served
from pellucid.store.home import home, is_url
from pellucid.store.ledger import LedgerFile
from pellucid.store.remote import RemotePath
from pellucid.store.served import Served
from tests.conftest import pellucid
from tests.serving import Answer, Serving
from tests.store.conftest import SHARD, lying, noise

# ---- the same as from the folder ---------------------------------------------------------------


def test_looking_at_an_address_gives_what_the_folder_gives(finished: Path, server: Serving) -> None:
    near, far = Shown(finished), Shown(home(server.url))
    for step in (0, 1, 7, 13):
        assert far.step(step) == near.step(step)
    assert far.block(3) == near.block(3)
    documents = list(near.list_documents())
    assert list(far.list_documents()) == documents
    document = documents[5]["id"]
    assert far.document(document) == near.document(document)
    about = status(home(server.url))
    assert about.pop("folder") == server.url
    assert about == {key: value for key, value in status(finished).items() if key != "folder"}


def test_states_and_tables_are_read_from_an_address(finished: Path, server: Serving) -> None:
    far = home(server.url)
    recorded = LedgerFile(finished).step(10)["state"]
    groups, _ = anchors.check(layout.anchor(far, 10), 10, recorded)
    near = anchors.read(layout.anchor(finished, 10))
    assert all(
        np.array_equal(groups["weights"][name], array) for name, array in near["weights"].items()
    )
    for table in metrics.TABLES:
        assert list(metrics.rows(far, table)) == list(metrics.rows(finished, table))
    assert layout.steps_in(far / layout.ANCHORS) == layout.steps_in(finished / layout.ANCHORS)


@pytest.mark.parametrize(
    "arguments",
    [("sample", "--tokens", "5"), ("status",), ("show", "step", "7"), ("show", "step7")],
)
def test_the_command_line_takes_an_address(
    finished: Path, server: Serving, arguments: tuple[str, ...]
) -> None:
    verb, *options = arguments
    assert pellucid(verb, server.url, *options).stdout == pellucid(verb, finished, *options).stdout


def test_export_from_an_address_writes_the_bytes_of_the_checkpoint(
    finished: Path, server: Serving, tmp_path: Path
) -> None:
    pellucid("export", server.url, "--step", "6", "--to", tmp_path / "six")
    for name in ("model.safetensors", "config.json", "tokenizer.json", "pellucid.json"):
        assert (tmp_path / "six" / name).read_bytes() == (
            finished / "checkpoints/step6" / name
        ).read_bytes()


@pytest.mark.parametrize("verb", ["run", "plan", "audit", "publish", "diff", "fork"])
def test_a_verb_that_needs_the_folder_says_so(verb: str) -> None:
    error = CliRunner().invoke(app, [verb, "https://example.org/release"]).exception
    assert isinstance(error, FolderNeeded) and "https://example.org/release" in str(error)


def test_a_release_is_read_through_fsspec(finished: Path) -> None:
    system = fsspec.filesystem("memory")
    system.put(str(finished), "/small", recursive=True)
    far = home("memory://small")
    assert Shown(far).step(7) == Shown(finished).step(7)
    system.rm(f"/small/{SHARD}")
    with pytest.raises(FileMissing, match=f"memory://small/{SHARD}"):
        home("memory://small").joinpath(SHARD).read_bytes()
    system.pipe(f"/small/{SHARD}", b"short")
    with pytest.raises(RemoteChanged):
        home("memory://small").joinpath(SHARD).read_bytes()
    system.pipe(f"/small/{layout.MANIFEST}", b"x" * 100)
    with pytest.raises(FormatInvalid):
        home("memory://small")


# ---- what moves --------------------------------------------------------------------------------


def test_a_step_moves_a_small_part_of_a_release(serve: Callable[..., Any]) -> None:
    place, server = serve(ids=noise(8 << 20))
    ids = arrays.mapped(place / "ids", "<u2")
    assert np.array_equal(
        ids[1_000_000:1_000_129], np.frombuffer(noise(8 << 20), "<u2")[1_000_000:1_000_129]
    )
    assert len(server.requests) == 1 and server.sent <= 2 * served.PAGE
    assert ids[1_000_010] == np.frombuffer(noise(8 << 20), "<u2")[1_000_010]
    assert len(server.requests) == 1


def test_documents_are_named_without_their_texts(finished: Path, server: Serving) -> None:
    far, near = Documents.open(home(server.url)), Documents.open(finished)
    for index in range(near.count):
        row = near.get(index)
        assert far.about(index) == {name: row[name] for name in ("id", "licence", "origin", "date")}
    assert {request.path.rpartition("/")[0] for request in server.requests} == {
        "",
        "data/documents",
    }


def test_a_long_file_read_on_and_on_takes_few_requests(serve: Callable[..., Any]) -> None:
    content = b"".join(b"%09d\n" % number for number in range(400_000))
    place, server = serve(lines=content)
    with (place / "lines").open("rb") as file:
        assert file.readline() == b"000000000\n"
        assert len(server.requests) == 1 and server.sent == served.PAGE
        assert b"".join(file) == content[10:]
    assert len(server.requests) < 20 and server.sent == len(content)


def test_a_search_in_a_table_takes_few_pages(serve: Callable[..., Any]) -> None:
    table = np.zeros((100_000, 3), "<u8")
    table[:, 0] = np.arange(100_000)
    table[:, 1] = np.cumsum(np.random.default_rng(2).integers(1, 900, 100_000)) - 1
    place, server = serve(table=table.tobytes())
    mapped = arrays.mapped(place / "table", "<u8", 3)
    begins = mapped[:, 1]
    begins.searchsorted(np.array([30_000_000], "<u8"))
    assert len(server.requests) <= 6
    for value in (0, 1, 7_654_321, int(table[-1, 1]), int(table[-1, 1]) + 1, int(table[5, 1])):
        for side in ("left", "right"):
            values = np.array([value, value + 3], "<u8")
            assert (
                begins.searchsorted(values, side).tolist()
                == table[:, 1].searchsorted(values, side).tolist()
            )


@pytest.mark.parametrize("kind", ["equal", "steep", "gaps", "random"])
def test_a_search_ends_at_the_right_place_in_any_order_of_growth(
    serve: Callable[..., Any], kind: str
) -> None:
    count = np.arange(20_000, dtype=np.uint64)
    drawn = np.random.default_rng(3).integers(0, 50, 20_000).astype("<u8")
    values = {
        "equal": count * 0 + 7,
        "steep": count**4,
        "gaps": count // 5000 * 10**12 + count,
        "random": drawn,
    }[kind]
    if kind != "random":
        values = np.sort(values)
    place, _ = serve(table=np.column_stack([values, count, count]).astype("<u8").tobytes())
    column = arrays.mapped(place / "table", "<u8", 3)[:, 0]
    for value in [*values[::1999].tolist(), 0, 8, 2**63]:
        for side in ("left", "right"):
            position = column.searchsorted(np.array([value], "<u8"), side)[0]
            if kind == "random":  # A forged table: any answer will do, but there is one.
                assert 0 <= position <= len(values)
            else:
                assert position == values.searchsorted(np.uint64(value), side)


def test_an_array_behind_an_address_is_indexed_as_one_in_memory(serve: Callable[..., Any]) -> None:
    table = np.frombuffer(noise(3 * 8 * 5000), "<u8").reshape(-1, 3)
    place, server = serve(table=table.tobytes(), empty=b"", odd=b"123")
    far = arrays.mapped(place / "table", "<u8", 3)
    assert (far.shape, far.ndim, far.size, far.nbytes, len(far)) == (
        (5000, 3),
        2,
        15000,
        120_000,
        5000,
    )
    rows = np.array([4999, 0, 17, 17, -1])
    for key in (
        0,
        -1,
        (7, 2),
        slice(10, 900),
        slice(900, 10, -3),
        (slice(5, 9), 1),
        (slice(5, 9), slice(0, 2)),
        rows,
    ):
        assert np.array_equal(far[key], table[key])
    odd, every = np.array([[7, 3], [0, 4998]]), np.arange(5000) % 1000 == 3
    columns = (
        1,
        -1,
        np.int64(2),
        slice(0, 2),
        [2, 0, 1, 1, 2],
        np.array([2, 0, 1, 1, 2]),
        [True, False, True],
    )
    for first in (rows, rows.tolist(), odd, every, slice(None), slice(3, 8), 4, np.int64(4)):
        for second in columns:
            try:
                expected = table[first, second]
            except IndexError:  # Of shapes that do not fit each other.
                continue
            assert np.array_equal(far[first, second], expected), (first, second)
    server.forget()
    assert np.array_equal(far[:, 2][rows], table[:, 2][rows])
    assert far[:, 1].sum() == table[:, 1].sum() and np.array_equal(np.asarray(far), table)
    assert arrays.mapped(place / "empty", "<u2").shape == (0,)
    assert np.array_equal(arrays.loaded(place / "table", "<u8", 5, 9), table.ravel()[5:9])
    for beyond in (5000, -5001, np.array([5000])):
        with pytest.raises(IndexError):
            far[beyond]
    with pytest.raises(FormatInvalid, match="not a multiple"):
        arrays.mapped(place / "odd", "<u2")


def test_pages_in_memory_are_bounded(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "KEPT", 10 * served.PAGE)
    place, _ = serve(big=noise(1 << 20))
    ids = arrays.mapped(place / "big", "u1")
    for start in range(0, 1 << 20, 50_000):
        assert ids[start : start + 9000].tobytes() == noise(1 << 20)[start : start + 9000]
    assert place.served._held <= 10 * served.PAGE
    assert place.served._held == sum(map(len, place.served._pages.values()))


NUMBERS = pa.schema({"number": pa.float64()})


def test_parquet_is_read_by_row_group(serve: Callable[..., Any], tmp_path: Path) -> None:
    table = pa.table({"number": np.random.default_rng(4).random(50_000)})
    parquet.write(tmp_path / "table.parquet", table, group=1000)
    content = (tmp_path / "table.parquet").read_bytes()
    place, server = serve(table=content)
    with parquet.opened(place / "table", NUMBERS) as file:
        assert file.read_row_group(30).equals(
            pq.read_table(io.BytesIO(content)).slice(30_000, 1000)
        )
    assert server.sent < len(content) / 10
    server.fault = lying(lambda request, honest: Answer(503, {}, b""), "table")
    with (
        parquet.opened(place / "table", NUMBERS) as file,
        pytest.raises(Unreachable),
    ):  # Its own name, through pyarrow.
        file.read_row_group(7)


@pytest.mark.parametrize(
    "end", [b"", b"PAR1", b"\xff\xff\xff\x7fPAR1", b"\xff\xff\x0f\x00PAR1", bytes(100_000)]
)
def test_a_parquet_file_that_is_none_is_named(serve: Callable[..., Any], end: bytes) -> None:
    place, _ = serve(table=end)
    with pytest.raises(FormatInvalid):
        parquet.opened(place / "table", NUMBERS)


def test_a_state_that_does_not_fit_here_is_not_begun(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    place, server = serve(state=noise(100_000))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=99_999))
    with pytest.raises(DiskFull):
        arrays.content(place / "state")
    monkeypatch.undo()
    assert server.sent == 0
    assert arrays.content(place / "state")[:] == noise(100_000)


# ---- addresses and paths -----------------------------------------------------------------------


def test_what_is_no_release_is_named(server: Serving) -> None:
    with pytest.raises(ReleaseMissing, match="nothing"):
        home(f"{server.url}/nothing")
    with pytest.raises(UrlInvalid):
        home(f"{server.url}?token=1")
    with pytest.raises(UrlInvalid):
        home("unheard://host/folder")
    with pytest.raises(UrlInvalid, match="password") as caught:
        home("https://me:secret@host/folder")
    assert "secret" not in str(caught.value)
    with pytest.raises(Unreachable):
        home("http://127.0.0.1:9/folder")


def test_a_driver_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(url: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "url_to_fs", missing)
    with pytest.raises(DriverMissing, match="pip install s3fs"):
        home("s3://bucket/folder")


@pytest.mark.parametrize("text", ["http://host/x", "https://host", "s3://bucket/x", "memory://x"])
def test_an_address_is_told_from_a_folder(text: str) -> None:
    assert is_url(text)
    with pytest.raises(FolderNeeded):
        folder_only(text)


@pytest.mark.parametrize("text", ["mymodel", "/a/b", ".", "http:/host", "a::b://c/d", "C:\\x"])
def test_a_folder_is_told_from_an_address(text: str) -> None:
    assert not is_url(text)
    assert home(text) == folder_only(text) == Path(text)


def test_a_remote_path_does_what_readers_need(finished: Path, server: Serving) -> None:
    far = home(f"{server.url}/")
    assert (
        str(far) == server.url
        and str(far / "data" / "manifest.json") == f"{server.url}/data/manifest.json"
    )
    assert (
        far.is_dir() and not far.is_file() and (far / "data").exists() and not (far / "no").exists()
    )
    assert (far / SHARD).is_file() and not (far / SHARD).is_symlink()
    assert (far / SHARD).stat().st_size == (finished / SHARD).stat().st_size
    assert {path.name for path in far.iterdir()} == {path.name for path in finished.iterdir()}
    assert (far / SHARD).parent == far / "data/shards" and (far / SHARD).name == "00000.train.bin"
    assert (far / "recipe.toml").read_text() == (finished / "recipe.toml").read_text()
    transport = far.served._transport  # type: ignore[attr-defined]
    assert far / SHARD != RemotePath(Served("http://other", transport), SHARD)
    for missing in (lambda: (far / "no").stat(), lambda: list((far / "no").iterdir())):
        with pytest.raises(FileNotFoundError):
            missing()
    with pytest.raises(OSError, match="only be read"):
        (far / "recipe.toml").open("w")
    with pytest.raises(TypeError, match="no path on this machine"):
        os.fspath(far)
    with pytest.raises(FileMissing):
        parquet.opened(far / "no.parquet", NUMBERS)


def test_a_name_with_signs_of_its_own_is_asked_for_as_it_is(serve: Callable[..., Any]) -> None:
    name = "a b%20?#é.bin"
    place, server = serve(**{name: noise(50_000)})
    assert (place / name).read_bytes() == noise(50_000)
    assert {request.path for request in server.requests} == {name}
