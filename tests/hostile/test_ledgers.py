"""What fuzzing and reading the readers found in ledgers: each is refused by name, at no cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pellucid.errors import (
    FormatInvalid,
    RecipeChanged,
)
from pellucid.inputs import Inputs
from pellucid.look.show import Shown
from pellucid.look.status import status
from pellucid.recipe import load
from pellucid.record import chain, digests, verdict
from pellucid.release.verify import verify
from pellucid.replay import ledgers
from pellucid.store import layout
from pellucid.store.ledger import LedgerFile
from tests.forgery.forge import bodies, chain_anew, edit_ledger, rewritten


@pytest.mark.parametrize(
    ("kind", "changed"),
    [
        ("step", {"loss": "1"}),
        ("step", {"tokens": "-4"}),
        ("step", {"state": 7}),
        ("genesis", {"stack": {"threads": 5}}),
        ("validation", {"sources": 3}),
        ("validation", {"sources": [{}]}),
        (
            "validation",
            {"sources": [{"source": "x", "loss_sum": "0" * 16, "tokens": "0", "bytes": "0"}]},
        ),
    ],
)
def test_a_malformed_entry_has_a_name_for_every_reader(
    kind: str, changed: dict[str, Any], release: Path
) -> None:
    rewritten(release, kind, **changed)
    assert any(
        problem.error == "LedgerBroken" for problem in verify(release, lambda what: None).problems
    )
    with pytest.raises(FormatInvalid, match=rf"malformed entry, {kind} .*n \d+: "):
        ledger = LedgerFile(release)
        list(ledger.between(0, 13))


def test_an_incident_with_other_values(release: Path) -> None:
    found = bodies(release)
    found.insert(
        -1,
        {"kind": "incident", "step": 13, "rule": "loss", "value": 5, "limit": [], "action": "note"},
    )
    chain_anew(release, found)
    with pytest.raises(FormatInvalid, match="value is not the bits"):
        status(release)


ROLLBACK = {
    "rule": "loss",
    "value": "40" + "0" * 14,
    "limit": "3f" + "f" * 14,
    "width": 1,
    "action": "rollback",
}


def rolled_back(release: Path, end: bool, **changed: object) -> Path:
    """The ledger with a rollback at its end, or followed by an end on the branch that it
    begins; None takes a field."""
    found = [body for body in bodies(release) if body["kind"] not in ("incident", "end")]
    fields = {
        "kind": "incident",
        "step": 13,
        **ROLLBACK,
        "to": 11,
        "passed_over": 2,
        "branch": 1,
    } | changed
    found.append({name: value for name, value in fields.items() if value is not None})
    chain_anew(release, [*found, {"kind": "end", "step": 11, "branch": 1}] if end else found)
    return release


# An entry by its number, or the branch that has no rollback of its own, or an impossible one.
ROLLBACK_UNFIT = (
    r"has (a malformed entry, incident of step 13|an unreadable entry), n \d+: "
    r"|has no incident at the start of branch 1\."
    r"|begins branch 1 with a rollback after step 13 that is impossible"
)


@pytest.mark.parametrize("end", [False, True], ids=["last", "followed"])
@pytest.mark.parametrize("field", ["to", "passed_over", "branch"])
def test_a_rollback_without_its_fields_has_a_name_for_every_reader(
    field: str, end: bool, release: Path
) -> None:
    assert len(LedgerFile(rolled_back(release, end)).rollbacks) == 1
    for value in (None, True, -1, "1", 10**17, 10**30):
        rolled_back(release, end, **{field: value})
        for read in (LedgerFile, status, lambda folder: Shown(folder).step(12)):
            with pytest.raises(FormatInvalid, match=ROLLBACK_UNFIT):
                read(release)
        assert not verify(release, lambda what: None).ok


def test_a_rollback_to_before_the_run_and_to_after_itself(release: Path) -> None:
    for to in (14, 10**6):
        with pytest.raises(FormatInvalid, match=f"to step {to}"):
            LedgerFile(rolled_back(release, True, to=to))


def test_true_is_no_branch_one(release: Path) -> None:
    rolled_back(release, True)
    edit_ledger(release, lambda body: body | {"branch": True} if body["kind"] == "end" else body)
    with pytest.raises(FormatInvalid, match="branch that is no number"):
        LedgerFile(release)
    end = {"prev": "0" * 64, "n": 1, "log": "0" * 64, "kind": "end", "step": 1, "branch": True}
    assert "branch is not an integer" in str(verdict.malformed(end))
    assert "says branch 0" in str(verdict.malformed(end | {"branch": 0})), (
        "one run would have two heads"
    )


@pytest.mark.parametrize("text", ['"x":1.5', '"x":NaN', '"x":"\\u0041"', '"x": 1', '"step":7'])
def test_an_entry_of_another_spelling_is_no_readers(text: str, release: Path) -> None:
    """What a reader of one step takes is what `verify` would take."""
    path = release / layout.LEDGER
    lines = path.read_bytes().splitlines(keepends=True)
    at = next(n for n, line in enumerate(lines) if b'"step":7,' in line)
    lines[at] = lines[at].replace(b"}", f",{text}}}".encode())
    path.write_bytes(b"".join(lines))
    with pytest.raises(FormatInvalid, match="unreadable entry"):
        LedgerFile(release).step(7)


@pytest.mark.parametrize("n", [None, "7", -1])
def test_an_entry_without_its_number(n: object, release: Path) -> None:
    path = release / layout.LEDGER
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    changed = [line | {"n": n} if line.get("step") == 7 else line for line in lines]
    path.write_bytes(
        b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in changed)
    )
    with pytest.raises(FormatInvalid, match="n is not an integer"):
        Shown(release).step(7)


def test_a_kind_within_another_entry_is_not_of_that_kind(release: Path) -> None:
    rewritten(release, "validation", sources=[{"kind": "checkpoint"}])
    assert {body["kind"] for body in LedgerFile(release).of_kind("checkpoint")} == {"checkpoint"}


@pytest.mark.parametrize("threads", ["x", "-1", "0", "99999", ""])
def test_threads_that_no_machine_has(threads: str, release: Path) -> None:
    stack = {"torch": "2.13", "device": "cpu", "cpu_capability": "AVX2", "threads": threads}
    rewritten(release, "genesis", stack=stack)
    with pytest.raises(FormatInvalid, match="threads is no number"):
        Inputs.load(release, load(release))


def test_another_recipe_and_a_genesis_that_does_not_say_its_version(release: Path) -> None:
    rewritten(release, "genesis", recipe="0" * 64)
    with pytest.raises(RecipeChanged):
        Inputs.load(release, load(release))
    edit_ledger(
        release, lambda body: {name: body[name] for name in body if name != "recipe_version"}
    )
    with pytest.raises(FormatInvalid, match="recipe_version is not there"):
        Inputs.load(release, load(release))


def test_losses_that_no_float_can_hold_together(release: Path) -> None:
    one = {"source": "x", "loss_sum": digests.float_bits(1.7e308), "tokens": "5", "bytes": "5"}
    rewritten(release, "validation", sources=[one, one | {"source": "y"}])
    with pytest.raises(FormatInvalid, match="nats"):
        status(release)


def test_true_is_no_step_one(release: Path) -> None:
    """To Python they are equal; to another reader they are not."""
    edit_ledger(release, lambda body: body | {"step": True} if body.get("step") == 1 else body)
    problems = verify(release, lambda what: None).problems
    assert any("step is not an integer" in problem.detail for problem in problems)


def test_a_ledger_that_claims_more_steps_than_it_can_hold(release: Path) -> None:
    rewritten(release, "end", step=2**50)
    with pytest.raises(FormatInvalid, match="too short for that"):
        LedgerFile(release)


def test_a_validation_without_sources_is_no_division_by_zero(release: Path) -> None:
    rewritten(release, "validation", sources=[])
    assert status(release)["validation"] == []
    assert ledgers.validations(LedgerFile(release), LedgerFile(release)) == []


def test_a_line_nested_to_the_readers_limit() -> None:
    for depth in range(900, 1000, 7):
        line = b'{"prev":"%b","n":0,"kind":%b%b}\n' % (
            chain.START.encode(),
            b"[" * depth,
            b"]" * depth,
        )
        assert len(list(chain.read([line], chain.Tip()))) == 1
