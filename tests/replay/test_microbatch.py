"""One microbatch is proven by itself, and what is not bound to the ledger is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pellucid.errors import (
    FormatInvalid,
    LedgerDiffers,
    MicrobatchUncommitted,
    MicrobatchUnknown,
    StepUnknown,
)
from pellucid.record import digests
from pellucid.replay.microbatch import audit_microbatch
from pellucid.replay.request import Request
from pellucid.store import metrics, parquet
from tests.conftest import pellucid
from tests.release.test_verify import change_table
from tests.replay.test_audit import opened, quiet, rewrite


def test_every_microbatch_is_proven(committed: Path) -> None:
    inputs = opened(committed)
    for step in (1, 6, 9):
        for index in range(4):
            proof = audit_microbatch(inputs, step, index, quiet)
            assert proof.ok and proof.actual == proof.expected and proof.of == 4, proof
            assert proof.root == inputs.recorded().step(step)["microbatches"]


def test_the_table_holds_what_the_leaves_hash(committed: Path) -> None:
    rows = metrics.of_step(committed, "microbatches", 6)
    assert [row["index"] for row in rows] == [0, 1, 2, 3] and {row["tokens"] for row in rows} == {
        2 * 32
    }
    assert len({row["gradient_root"] for row in rows}) == 4


def changed(folder: Path, column: str, value: Any) -> None:
    """In the rows of step 6, microbatch 2: row 22 of four a step."""
    change_table(folder, "microbatches", column, 22, value)


@pytest.mark.parametrize(
    ("column", "value"), [("gradient_root", "ab" * 32), ("loss_sum", 1.0), ("tokens", 9)]
)
def test_a_leaf_that_the_ledger_does_not_hold_is_found(
    column: str, value: Any, committed_copy: Path
) -> None:
    changed(committed_copy, column, value)
    proof = audit_microbatch(opened(committed_copy), 6, 2, quiet)
    assert (
        "and the ledger records" in proof.problems[0]
        and f"microbatch 2: {column} is" in proof.problems[1]
    )
    other = audit_microbatch(opened(committed_copy), 6, 1, quiet)
    # Its leaf is not under the ledger's root either.
    assert not other.ok and other.actual == other.expected
    assert audit_microbatch(opened(committed_copy), 7, 2, quiet).ok


def test_a_forged_leaf_with_its_ledger_is_found_by_its_field(committed_copy: Path) -> None:
    """The forger publishes another gradient and fits the root in the ledger to it."""
    changed(committed_copy, "gradient_root", "ab" * 32)
    leaves = [
        digests.microbatch_leaf(
            *(row[name] for name in ("index", "tokens", "weight", "loss_sum", "objective")),
            bytes.fromhex(row["gradient_root"]),
        )
        for row in metrics.of_step(committed_copy, "microbatches", 6)
    ]
    from pellucid.record import merkle

    def change(body: dict[str, Any]) -> None:
        if body.get("step") == 6 and body["kind"] == "step":
            body["microbatches"] = merkle.root(leaves).hex()

    rewrite(committed_copy, change)
    proof = audit_microbatch(opened(committed_copy), 6, 2, quiet)
    assert (
        len(proof.problems) == 1 and "step 6, microbatch 2: gradient_root is" in proof.problems[0]
    )
    assert audit_microbatch(opened(committed_copy), 6, 1, quiet).ok
    with pytest.raises(LedgerDiffers, match="step 6: recomputed microbatches"):
        # The way to step 7 leads through step 6.
        audit_microbatch(opened(committed_copy), 8, 2, quiet)


@pytest.mark.parametrize(
    ("column", "value"), [("gradient_root", "xy"), ("loss_sum", None), ("tokens", -1)]
)
def test_rows_that_are_no_microbatches_are_named(
    column: str, value: Any, committed_copy: Path
) -> None:
    changed(committed_copy, column, value)
    with pytest.raises(FormatInvalid, match="metrics/microbatches"):
        audit_microbatch(opened(committed_copy), 6, 2, quiet)


def test_a_step_without_rows_is_named(committed_copy: Path) -> None:
    path = committed_copy / "metrics/microbatches.parquet"
    read = pq.read_table(path)
    parquet.write(path, read.slice(0, 20))
    assert audit_microbatch(opened(committed_copy), 5, 0, quiet).ok
    with pytest.raises(StepUnknown, match="metrics/microbatches"):
        audit_microbatch(opened(committed_copy), 6, 0, quiet)


def test_what_cannot_be_asked_for_is_named(committed: Path, finished: Path) -> None:
    with pytest.raises(MicrobatchUncommitted, match=r"--step 6.*record.commitment=microbatches"):
        audit_microbatch(opened(finished), 6, 0, quiet)
    for index in (-1, 4):
        with pytest.raises(MicrobatchUnknown, match="it has 4"):
            audit_microbatch(opened(committed), 6, index, quiet)
    for step in (0, 14):
        with pytest.raises(StepUnknown):
            audit_microbatch(opened(committed), step, 0, quiet)


def test_the_command_says_what_it_proves_and_what_not(committed: Path) -> None:
    out = pellucid("audit", committed, "--step", 6, "--microbatch", "random", "--seed", 5).stdout
    (line,) = [line for line in out.splitlines() if "not checked" in line]
    assert "update" in line and "validations" in line and "the first state" in line
    assert (
        "of 4 bit-equal" in out
        and "not checked: the other 3 microbatches" in out
        and "seed 5" in out
    )
    found = json.loads(
        pellucid("audit", committed, "--microbatch", 1, "--seed", 5, "--json").stdout
    )
    again = json.loads(
        pellucid("audit", committed, "--microbatch", 1, "--seed", 5, "--json").stdout
    )
    assert found["ok"] and found["expected"] == found["actual"]
    assert (found["step"], found["microbatch"]) == (again["step"], 1)


def test_a_forged_validation_is_found_by_the_step_and_not_by_a_microbatch(
    committed_copy: Path,
) -> None:
    def change(body: dict[str, Any]) -> None:
        if body["kind"] == "validation" and body["step"] == 13:
            body["sources"][0]["loss_sum"] = digests.float_bits(1.0)

    rewrite(committed_copy, change)
    assert audit_microbatch(opened(committed_copy), 6, 2, quiet).ok
    report = Request.of(opened(committed_copy), [6], None, None, None, False, "").run(quiet)
    assert not report.ok and report.wrong == "the validation of step 13"


def test_a_forged_one_fails_the_command(committed_copy: Path) -> None:
    changed(committed_copy, "loss_sum", 1.0)
    done = pellucid("audit", committed_copy, "--step", 6, "--microbatch", 2, check=5)
    assert (
        "AuditFailed" in done.stderr
        and "NOT the recorded bits" in done.stdout
        and "loss_sum" in done.stdout
    )
