"""Where two runs part: recipes, records, machines, anchors; and that
explaining it replaces no verdict."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pellucid.cli.audit import audit_run
from pellucid.errors import AuditFailed, FormatInvalid, RunsDiffer
from pellucid.kernels import calls, library
from pellucid.record import digests
from pellucid.replay import blame
from pellucid.replay.diff import diff, diff_here, explain_audit
from pellucid.replay.ledgers import both
from pellucid.replay.request import Request
from pellucid.store import layout
from tests.conftest import finish, make_run, pellucid
from tests.replay.differences import UP_PROJ, explained, inputs_of, named, quiet
from tests.replay.faults import (
    DENSE,
    SPARSE,
    STEP,
    constant,
    flip,
    in_step,
    trained,
    wrong_tile,
)
from tests.replay.test_audit import rewrite

# ---- recipes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "step", "words_", "operation"),
    [
        (
            ["optimizer.beta2=0.99"],
            1,
            "optimizer.beta2 is 0.95 in one recipe and 0.99 in the other, which alone",
            "adamw",
        ),
        (
            ["train.steps=12"],
            3,
            "train.steps is 13 in one recipe and 12 in the other, which alone",
            "adamw",
        ),
        (["model.rope_theta=2e4"], 1, "model.rope_theta is 10000.0", "attention"),
        (
            ["record.commitment=microbatches"],
            1,
            "record.commitment is steps",
            "none: the record alone differs",
        ),
        (
            ["train.arithmetic=native"],
            1,
            "train.arithmetic is portable",
            "every operation: another arithmetic",
        ),
        (
            ["train.clip=0.5", "optimizer.epsilon=1e-7"],
            1,
            "no single field explains",
            "adamw",
        ),
    ],
)
def test_a_field_of_the_recipe(
    settings: list[str],
    step: int,
    words_: str,
    operation: str,
    finished: Path,
    corpus: Path,
    tmp_path: Path,
) -> None:
    found = diff(finished, finish(make_run(tmp_path / "b", corpus, settings)), quiet)
    assert (found.step, found.agrees) == (step, "both") and named(found) == ("recipe", "proven")
    assert found.cause is not None and words_ in found.cause.description
    assert found.operation is not None and found.operation["name"] == operation
    assert len(found.recipe) == len(settings)


def test_another_seed(finished: Path, corpus: Path, tmp_path: Path) -> None:
    found = diff(finished, finish(make_run(tmp_path / "b", corpus, ["seed=2"])), quiet)
    assert (found.step, found.kind, found.agrees) == (0, "genesis", "both") and named(found) == (
        "recipe",
        "proven",
    )
    assert found.recipe == [{"field": "seed", "a": 1, "b": 2}]
    assert {one.group for one in found.tensors} == {"weights"}
    assert found.operation is not None and found.operation["name"] == "initial_values"


# ---- the record --------------------------------------------------------------------------------


def edited(release: Path) -> Path:
    """Another loss, under a chain computed anew."""

    def change(body: dict[str, Any]) -> None:
        if body.get("step") == STEP and body["kind"] == "step":
            body["loss"] = digests.float_bits(digests.bits_float(body["loss"]) * 0.9)

    rewrite(release, change)
    return release


def test_an_edited_loss(finished: Path, release: Path) -> None:
    found = diff(finished, edited(release), quiet)
    assert (found.step, found.phase, found.agrees) == (STEP, "record", "A")
    assert [one["field"] for one in found.fields] == ["loss"] and named(found) == (
        "record",
        "proven",
    )
    assert found.operation is not None and found.operation["name"].startswith("none")


def test_a_line_that_was_changed_under_the_old_chain(finished: Path, release: Path) -> None:
    """Both heads are equal; the files are not."""
    path = release / layout.LEDGER
    lines = path.read_bytes().splitlines(keepends=True)
    at = next(n for n, line in enumerate(lines) if b'"kind":"step","step":7,' in line)
    grad_norm = json.loads(lines[at])["grad_norm"].encode()
    lines[at] = lines[at].replace(grad_norm, b"3ff0000000000000")
    path.write_bytes(b"".join(lines))
    found = diff(finished, release, quiet)
    assert found.step == 7 and [one["field"] for one in found.fields] == ["grad_norm"]


def test_a_run_that_ends_earlier(finished: Path, release: Path) -> None:
    path = release / layout.LEDGER
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(
        b"".join(lines[: next(n for n, line in enumerate(lines) if b'"step":9,' in line)])
    )
    found = diff(finished, release, quiet)
    assert (found.step, found.equal) == (9, False) and "B ends before A" in explained(found)


def test_another_validation(finished: Path, release: Path) -> None:
    def change(body: dict[str, Any]) -> None:
        if body["kind"] == "validation" and body["step"] == 10:
            body["sources"][0]["loss_sum"] = digests.float_bits(1.0)

    rewrite(release, change)
    assert (diff(finished, release, quiet).step, diff(finished, release, quiet).kind) == (
        10,
        "validation",
    )
    alone = diff_here(release, quiet)
    assert (alone.step, alone.kind) == (10, "validation") and named(alone) == (
        "validation",
        "proven",
    )


def test_equal_runs_are_equal(finished: Path, release: Path) -> None:
    assert diff(finished, release, quiet).equal and diff_here(finished, quiet).equal


def test_ledgers_alone_tell_what_they_can(finished: Path, release: Path) -> None:
    edited(release)
    shutil.rmtree(release / "data")
    found = diff(finished, release, quiet)
    assert (
        found.step == STEP
        and found.agrees == "A"
        and "B cannot be computed here: StageNotReady" in explained(found)
    )


# ---- this machine ------------------------------------------------------------------------------


def faulty_swiglu(patch: pytest.MonkeyPatch) -> None:
    """Kernels that err on every instruction set but plain C."""
    start, swiglu, taken = library.start, calls.swiglu, [""]

    def starting(kernels: Any, name: str, threads: int) -> int:
        taken[0] = name
        return start(kernels, name, threads)

    def erring(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        out = swiglu(gate, up)
        if taken[0] not in ("scalar", "software"):
            flip(out, 5, 10)
        return out

    patch.setattr(library, "start", starting)
    patch.setattr(calls, "swiglu", erring)


@pytest.mark.skipif(
    library.isa(library.kernels()) == "scalar", reason="there is no other instruction set here"
)
def test_this_machine_errs(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record is right, and the operation is named by a second path through independent code."""
    inputs = inputs_of(finished)
    faulty_swiglu(monkeypatch)
    found = explain_audit(inputs, 9, quiet)
    assert (
        found.step == 9
        and named(found) == ("this machine", "proven")
        and "the record is right" in explained(found)
    )
    assert found.operation is not None
    assert (found.operation["name"], found.operation["by"]) == ("swiglu", "outputs")
    assert found.operation["about"].startswith("model.layers.0.mlp")


def test_a_machine_that_gives_two_results(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    norm, count = calls.norm, iter(range(10**9))

    def erring(*arguments: Any) -> Any:
        out = norm(*arguments)
        if next(count) % 7 == 3:
            flip(out[0], 1, 15)
        return out

    inputs = inputs_of(finished)
    monkeypatch.setattr(calls, "norm", erring)
    found = explain_audit(inputs, 3, quiet)
    assert named(found) == ("this machine", "proven") and "gave different results" in explained(
        found
    )


# ---- audits and anchors ------------------------------------------------------------------------


def test_a_failed_audit_ends_with_the_cause(corpus: Path, tmp_path: Path) -> None:
    folder = trained(tmp_path / "b", corpus, in_step(constant(beta1=0.95)), [SPARSE])
    about = json.loads(pellucid("audit", folder, "--step", 8, "--json", check=5).stdout)
    assert about["ok"] is False and about["difference"]["step"] == STEP
    assert about["difference"]["cause"]["name"] == "beta1"
    out = pellucid("audit", folder, "--step", 8, check=5).stdout
    assert "Cause, proven: the optimizer took beta1 = 0.95, and the recipe says 0.9." in out


def test_a_stale_anchor(release: Path) -> None:
    shutil.rmtree(release / "anchors/step5")
    shutil.copytree(release / "anchors/step4", release / "anchors/step5")
    for step in (5, 6):
        found = explain_audit(inputs_of(release), step, quiet)
        assert (found.step, found.kind) == (5, "anchor") and named(found) == (
            "stale anchor",
            "proven",
        )
        assert "holds the state of step 4" in explained(found)


def test_a_bit_of_a_stored_state(release: Path) -> None:
    path = release / "anchors/step5/optimizer.safetensors"
    content = bytearray(path.read_bytes())
    content[-400] ^= 8
    path.unlink()
    path.write_bytes(content)
    for step in (5, 6):
        found = explain_audit(inputs_of(release), step, quiet)
        (tensor,) = found.tensors
        assert named(found) == ("damaged anchor", "proven") and (tensor.group, tensor.bit) == (
            "exp_avg_sq",
            3,
        )


# ---- microbatches, environments, the command line ----------------------------------------------


def test_the_microbatch_is_named_by_its_published_root(corpus: Path, tmp_path: Path) -> None:
    settings = ["record.commitment=microbatches", DENSE]
    honest = finish(make_run(tmp_path / "honest", corpus, settings))
    fault = wrong_tile(UP_PROJ, slice(16, 32), slice(8, 16), microbatch=1)
    faulty = trained(tmp_path / "faulty", corpus, in_step(fault), settings)
    assert diff(honest, faulty, quiet).microbatch == 1
    (faulty / layout.METRICS / "microbatches.parquet").unlink()
    assert diff(honest, faulty, quiet).microbatch is None


def test_the_environments_differences_are_listed(finished: Path, release: Path) -> None:
    edited(release)
    path = release / layout.ENVIRONMENT
    path.write_text(path.read_text().replace("torch==", "torch==1."))
    found = diff(finished, release, quiet)
    (torch_,) = [one for one in found.environments if one["what"] == "package torch"]
    assert torch_["b"] == "1." + torch_["a"] and "package torch" in explained(found)


@pytest.mark.parametrize("verb", [("diff",), ("audit", "--step", STEP)], ids=["diff", "audit"])
@pytest.mark.parametrize(
    "name", [layout.CODE, layout.ENVIRONMENT, layout.JOURNAL, "metrics/segments.parquet"]
)
def test_what_only_explains_replaces_no_verdict(
    verb: tuple[Any, ...], name: str, finished: Path, release: Path
) -> None:
    """The loss that is not what the step gives is told, whatever the
    maker put beside the ledger."""
    edited(release)
    (release / name).unlink()
    (release / name).write_bytes(b"x" * (2 << 20))
    about = json.loads(
        pellucid(*verb, *([finished] * (verb[0] == "diff")), release, "--json", check=5).stdout
    )
    told = about if verb[0] == "diff" else about["difference"]
    assert (told["step"], told["equal"], about.get("ok")) == (
        STEP,
        False,
        False if verb[0] == "audit" else None,
    )
    assert name == layout.JOURNAL or any(
        name.rpartition("/")[2].partition(".")[0] in one for one in told["notes"]
    )


@pytest.mark.parametrize(
    "raised", [FormatInvalid(path="x", detail="y"), RecursionError("deep"), MemoryError()]
)
@pytest.mark.parametrize("as_json", [False, True])
def test_an_audit_is_told_whatever_explaining_it_does(
    raised: Exception,
    as_json: bool,
    release: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def explain(*_: object) -> None:
        raise raised

    edited(release)
    monkeypatch.setattr("pellucid.replay.diff.explain_audit", explain)
    request = Request.of(inputs_of(release), [STEP], None, None, None, False, "")
    with pytest.raises(AuditFailed):
        audit_run(request, as_json)
    out = capsys.readouterr().out
    assert type(raised).__name__ in (json.loads(out)["unexplained"] if as_json else out)
    assert (
        not json.loads(out)["ok"]
        if as_json
        else f"audit: step {STEP} bit-equal, but NOT as published" in out
    )


@pytest.mark.parametrize("as_json", [False, True])
def test_an_audit_is_told_where_somebody_stops_the_explaining(
    as_json: bool,
    release: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def explain(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pellucid.replay.diff.explain_audit", explain)
    with pytest.raises(KeyboardInterrupt):
        audit_run(
            Request.of(inputs_of(edited(release)), [STEP], None, None, None, False, ""), as_json
        )
    out = capsys.readouterr().out
    assert (
        not json.loads(out)["ok"]
        if as_json
        else f"audit: step {STEP} bit-equal, but NOT as published" in out
    )


def test_the_command_line(finished: Path, release: Path) -> None:
    assert "the same run" in pellucid("diff", finished, release).stdout
    edited(release)
    done = pellucid("diff", finished, release, check=RunsDiffer.exit_code)
    assert f"The first difference is at step {STEP}" in done.stdout and "RunsDiffer" in done.stderr
    about = json.loads(pellucid("diff", finished, release, "--json", check=5).stdout)
    keys = (
        "a b equal step kind fields phase recipe document rows microbatch tensors operation "
        "cause agrees validation"
    )
    assert set(about) == {*keys.split(), "tried", "environments", "notes", "explanation"}
    assert about["cause"] == {**about["cause"], "name": "record", "certainty": "proven"}


def test_what_a_release_says_of_itself_cannot_command_a_terminal(
    finished: Path, release: Path
) -> None:
    edited(release)
    path = release / layout.ENVIRONMENT
    path.write_text(path.read_text() + "evil==\x1b[2J\n")
    assert "\x1b" not in pellucid("diff", finished, release, check=5).stdout


def test_tensors_of_other_shapes_have_no_rows_that_differ() -> None:
    found = blame.compare("weights", "w", np.zeros((400, 32)), np.zeros((512, 32)))
    assert found.words == "weights of w: shapes differ: (400, 32) and (512, 32)"
    assert "unlike" not in blame.compare("weights", "w", np.zeros(2), np.ones(2)).as_json()


def test_a_field_that_one_recipe_has_is_only_there() -> None:
    assert [both(5, None), both(None, "x")] == ["only in A: 5", "only in B: 'x'"]
    assert both(1, 2) == "1 in A and 2 in B"
