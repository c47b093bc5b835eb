from __future__ import annotations

import os
from pathlib import Path

import pytest

from pellucid.errors import DiskFull, LedgerBroken
from pellucid.record import chain
from pellucid.store.log import Log, read


def filled(path: Path, count: int = 5) -> Log:
    log = Log(path, chain.LedgerTip())
    for number in range(count):
        log.append({"kind": "step", "step": number})
    return log


def test_a_log_goes_on_where_it_stood(tmp_path: Path) -> None:
    expected = filled(tmp_path / "a", 8)
    part = filled(tmp_path / "b", 5)
    part.close()
    part = Log(tmp_path / "b", chain.LedgerTip())
    for number in range(5, 8):
        part.append({"kind": "step", "step": number})
    assert (
        part.tip.place() == expected.tip.place()
        and (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    )


def test_a_torn_line_is_removed_at_any_length(tmp_path: Path) -> None:
    filled(tmp_path / "whole").close()
    content = (tmp_path / "whole").read_bytes()
    last = content.rstrip(b"\n").rfind(b"\n") + 1
    for cut in range(last, len(content)):
        (tmp_path / "torn").write_bytes(content[:cut])
        log = Log(tmp_path / "torn", chain.LedgerTip())
        assert (log.tip.n, log.torn) == (4, cut - last)
        log.append({"kind": "step", "step": 4})
        log.close()
        assert (tmp_path / "torn").read_bytes() == content


def test_a_damaged_log_is_not_continued(tmp_path: Path) -> None:
    filled(tmp_path / "x").close()
    content = bytearray((tmp_path / "x").read_bytes())
    content[200] ^= 1
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(LedgerBroken, match=r"entry [12]"):
        Log(tmp_path / "x", chain.LedgerTip())


def test_a_failed_write_leaves_the_log_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = filled(tmp_path / "x")
    before = (tmp_path / "x").read_bytes()
    real = os.write
    monkeypatch.setattr(os, "write", lambda file, line: real(file, line[:7]))
    with pytest.raises(DiskFull):
        log.append({"kind": "step", "step": 5})
    monkeypatch.undo()
    assert (tmp_path / "x").read_bytes() == before
    log.append({"kind": "step", "step": 5})
    assert [entry.problem for entry in read(tmp_path / "x", chain.LedgerTip())] == [None] * 6
