from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.errors import FormatInvalid, FormatTooNew, NotTrained, StepUnknown
from pellucid.record import chain, entries
from pellucid.store import layout, ledger
from pellucid.store.ledger import LedgerFile
from pellucid.store.log import Log

SOURCE = {"source": "x", "loss_sum": "0" * 16, "tokens": "1", "bytes": "1"}
_WRITTEN = {entries.DIGEST: "0" * 64, entries.FLOAT: "0" * 16, entries.DECIMAL: "1"}
STEP = {name: _WRITTEN[written] for name, written in entries.STEP.items()}
GENESIS = {
    "kind": "genesis",
    "format": 1,
    "arithmetic": "portable 1",
    "pipeline": 2,
    "recipe_version": 4,
}
GENESIS |= dict.fromkeys(("recipe", "data", "tokenizer", "weights", "state"), "0" * 64)


def write(folder: Path, steps: int, every: int = 3, padding: int = 0) -> None:
    log = Log(folder / layout.LEDGER, chain.LedgerTip())
    log.append(GENESIS)
    for step in range(1, steps + 1):
        log.append({"kind": "step", "step": step, **STEP})
        if step % every == 0:
            log.append(
                {
                    "kind": "validation",
                    "step": step,
                    "sources": [SOURCE | {"source": "x" * (1 + padding)}],
                }
            )
    log.close()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 300), st.integers(1, 5), st.integers(0, 300))
def test_every_step_is_found_by_bisection(
    tmp_path_factory: pytest.TempPathFactory, steps: int, every: int, padding: int
) -> None:
    folder = tmp_path_factory.mktemp("ledger")
    write(folder, steps, every, padding)
    ledger = LedgerFile(folder)
    assert ledger.steps_done == steps and not ledger.ended
    for step in {1, 2, steps // 2 or 1, steps}:
        if step <= steps:
            assert ledger.step(step)["step"] == step
            kinds = [body["kind"] for body in ledger.between(step, step)]
            assert kinds == ["step", "validation"][: 1 + (step % every == 0)]
    assert ledger.step(0)["kind"] == "genesis"
    assert [body["step"] for body in ledger.of_kind("validation")] == list(
        range(every, steps + 1, every)
    )
    for outside in (-1, steps + 1):
        with pytest.raises(StepUnknown):
            ledger.step(outside)


def test_rare_entries_are_read_wherever_a_block_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 40, every=7)
    content = (tmp_path / layout.LEDGER).read_bytes()
    longest = max(map(len, content.splitlines(keepends=True)))
    for size in (*range(longest, longest + 90, 7), len(content) - 1, len(content)):
        monkeypatch.setattr(ledger, "_BLOCK", size)
        bodies = list(LedgerFile(tmp_path).every("validation", "genesis"))
        assert [body.get("step", 0) for body in bodies] == [0, 7, 14, 21, 28, 35]


def test_a_torn_last_line_is_not_read(tmp_path: Path) -> None:
    write(tmp_path, 5)
    with (tmp_path / layout.LEDGER).open("ab") as file:
        file.write(b'{"prev":"00","n":7,"kind":"st')
    assert LedgerFile(tmp_path).steps_done == 5


def test_missing_newer_and_damaged(tmp_path: Path) -> None:
    with pytest.raises(NotTrained):
        LedgerFile(tmp_path)
    path = tmp_path / layout.LEDGER
    path.parent.mkdir()
    cases = [
        (b"", NotTrained),
        (b'{"prev', NotTrained),
        (b"{}\n", FormatInvalid),
        (b"\xff\n", FormatInvalid),
        (b'{"kind":"step","step":1}\n', FormatInvalid),
        (b'{"kind":"genesis","step":"1"}\n', FormatInvalid),
        (b'{"kind":"genesis","format":2}\n', FormatTooNew),
    ]
    for content, error in cases:
        path.write_bytes(content)
        with pytest.raises(error):
            LedgerFile(tmp_path)
