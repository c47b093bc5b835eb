"""Whatever is changed in a sealed release is found, and named."""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pellucid.cli.common import READING
from pellucid.record import chain, digests
from pellucid.release import manifest
from pellucid.release.publish import publish
from pellucid.release.verify import Report, verify
from pellucid.store import files, layout, parquet, sealed, tensors
from pellucid.store.ledger import LedgerFile
from tests.conftest import pellucid
from tests.replay.test_audit import forge_anchor, rewrite

FLIPS = int(os.environ.get("PELLUCID_TEST_FLIPS", "60"))


def checked(folder: Path) -> Report:
    return verify(folder, lambda what: None)


def reseal(folder: Path) -> None:
    """As a forger would: a new manifest over whatever is there now."""
    manifest.write(folder, "small", LedgerFile(folder).head)


def test_a_sealed_release_verifies(finished: Path) -> None:
    report = checked(finished)
    assert report.problems == [] and report.sealed


def test_every_single_bit_flip_is_found_and_named(release: Path) -> None:
    random.seed(os.environ.get("PELLUCID_TEST_SEED", "1"))
    paths = files.walk(release)
    sizes = [(release / path).stat().st_size for path in paths]
    for _ in range(FLIPS):
        # Half of them by size, half of them by file, so that small files are met as well.
        path = random.choices(paths, sizes)[0] if random.random() < 0.5 else random.choice(paths)
        target = release / path
        # Breaks no link: copies are their own files.
        target.write_bytes(original := target.read_bytes())
        bit = random.randrange(8 * len(original))
        damaged = bytearray(original)
        damaged[bit // 8] ^= 1 << bit % 8
        target.write_bytes(damaged)
        problems = checked(release).problems
        assert any(path in problem.where for problem in problems), (path, bit, problems)
        if path == layout.LEDGER:
            entry = original[: bit // 8].count(b"\n")
            found = [
                problem.where
                for problem in problems
                if "entry" in problem.where or "step" in problem.where
            ]
            assert any(
                f"entry {n}," in where or "last entry" in where
                for where in found
                for n in (entry, entry + 1)
            ), found
        target.write_bytes(original)
    assert checked(release).ok


def test_removed_added_renamed_and_truncated_files_are_found(release: Path) -> None:
    for path in files.walk(release):
        target = release / path
        content = target.read_bytes()
        target.unlink()
        if path != layout.MANIFEST:  # Without it the run counts as not sealed: below.
            assert any(
                p.error == "FileMissing" and p.where == path for p in checked(release).problems
            ), path
            target.with_name("renamed").write_bytes(content)
            found = {(p.error, p.where) for p in checked(release).problems}
            renamed = target.with_name("renamed").relative_to(release).as_posix()
            assert {("FileMissing", path), ("FileAdded", renamed)} <= found
            target.with_name("renamed").unlink()
            target.write_bytes(content[:-1])
            assert any(
                p.error == "FileDiffers" and p.where == path for p in checked(release).problems
            ), path
        target.write_bytes(content)
    (release / layout.MANIFEST).rename(release / "elsewhere")
    assert not checked(release).sealed


def test_an_unsealed_run_is_checked_without_its_manifest(release: Path) -> None:
    (release / layout.MANIFEST).unlink()
    assert [(p.error, p.where) for p in checked(release).problems] == [
        ("FileMissing", "manifest.jsonl")
    ]
    (release / "README.md").unlink()
    report = checked(release)
    assert report.ok and not report.sealed


def errors_of(folder: Path) -> set[str]:
    reseal(folder)
    return {problem.error for problem in checked(folder).problems}


def test_a_loss_changed_under_a_recomputed_chain_is_found_without_replay(release: Path) -> None:
    def change(body: dict[str, Any]) -> None:
        if body.get("step") == 7 and body["kind"] == "step":
            body["loss"] = digests.float_bits(digests.bits_float(body["loss"]) * 0.9)

    rewrite(release, change)
    reseal(release)
    found = [problem for problem in checked(release).problems if problem.error == "LossDiffers"]
    assert [problem.where for problem in found] == ["record/ledger.jsonl: step 7"]


def change_table(release: Path, table: str, column: str, row: int, value: float | str) -> None:
    path = release / "metrics" / f"{table}.parquet"
    read = pq.read_table(path)
    values = read[column].to_pylist()
    values[row] = value
    parquet.write(
        path,
        read.set_column(read.schema.get_field_index(column), read.schema.field(column), [values]),
    )


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("steps", "loss"),
        ("steps", "grad_norm"),
        ("segments", "loss_sum"),
        ("validation", "loss_sum"),
        ("microbatches", "loss_sum"),
    ],
)
def test_a_published_number_that_the_ledger_does_not_record_is_found(
    table: str, column: str, release: Path
) -> None:
    change_table(release, table, column, 2, 1.25)
    reseal(release)
    found = [problem for problem in checked(release).problems if problem.error == "NumbersDiffer"]
    assert found and found[0].where == f"metrics/{table}.parquet"


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("steps", "phase", "other"),
        ("steps", "tokens", 9),
        ("segments", "row", -1),
        ("segments", "document", 0),
        ("segments", "tokens", 0),
        ("sequences", "block", 1),
        ("sequences", "start", 1),
        ("sequences", "epoch", 1),
        ("sequences", "loss_sum", 0.0),
        ("sequences", "step", 99),
        ("sources", "loss_sum", 0.0),
        ("validation", "bits_per_byte", 0.1),
        ("microbatches", "index", 3),
        ("microbatches", "tokens", 9),
        ("microbatches", "loss_sum", 0.0),
        ("microbatches", "gradient_root", "00" * 32),
        ("microbatches", "step", 99),
    ],
)
def test_every_derived_number_is_checked(
    table: str, column: str, value: float | str, release: Path
) -> None:
    change_table(release, table, column, -1, value)
    reseal(release)
    assert [p.where for p in checked(release).problems if p.error == "NumbersDiffer"][:1] == [
        f"metrics/{table}.parquet"
    ]


@pytest.mark.parametrize(
    "change",
    [
        lambda line: line.replace(b'"kind":', b'"kind": ', 1),
        lambda line: line.replace(b'"kind"', b'"step":1,"kind"', 1),
    ],
)
def test_another_spelling_of_an_entry_is_found(change: Any, release: Path) -> None:
    """Two readers must not find two meanings in one line."""
    tip, lines = chain.LedgerTip(), []
    for line in (release / layout.LEDGER).read_bytes().splitlines(keepends=True):
        written = chain.line_of({**json.loads(line), **tip.place()})
        lines.append(change(written) if tip.n == 5 else written)
        tip.take(lines[-1])
    (release / layout.LEDGER).write_bytes(b"".join(lines))
    reseal(release)
    assert any(
        "spelled" in problem.detail and "entry 5" in problem.where
        for problem in checked(release).problems
    )


@pytest.mark.parametrize(
    "field", ["tokenizer", "pipeline", "arithmetic", "recipe_version", "data", "recipe"]
)
def test_another_genesis_is_found(field: str, release: Path) -> None:
    old = LedgerFile(release).genesis[field]
    rewrite(
        release,
        lambda body: (
            body.update({field: "00" * 32 if isinstance(old, str) else 9})
            if "format" in body
            else None
        ),
    )
    assert {"LedgerBroken", "DataDiffers"} & errors_of(release)


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("checkpoints/step6/pellucid.json", "step"),
        ("checkpoints/step6/config.json", "rope_parameters"),
        ("config.json", "rope_theta"),
        ("checkpoints/step6/generation_config.json", "bos_token_id"),
        ("checkpoints/step6/tokenizer_config.json", "model_max_length"),
        ("anchors/step5/anchor.json", "ledger_digest"),
        ("pellucid.json", "tokens"),
    ],
)
def test_what_a_step_says_of_itself_is_checked(path: str, key: str, release: Path) -> None:
    content = json.loads((release / path).read_bytes())
    files.write_json(release / path, content | {key: "other"})
    reseal(release)
    assert any(problem.where == path for problem in checked(release).problems)


def test_weights_hidden_in_the_optimizers_file_do_not_stand_for_the_anchors(release: Path) -> None:
    """The right weights beside the moments, wrong ones where a reader takes them from."""
    place = release / "anchors/step5"
    weights = tensors.Tensors(place / "model.safetensors")
    moments = tensors.Tensors(place / "optimizer.safetensors")
    right = {f"weights/{name}": array.copy() for name, array in weights.arrays().items()}
    wrong = {name: array + 1 for name, array in weights.arrays().items()}
    own = {name: array.copy() for name, array in moments.arrays().items()}
    tensors.write(place / "optimizer.safetensors", {**own, **right}, moments.metadata)
    tensors.write(place / "model.safetensors", wrong, weights.metadata)
    assert "FormatInvalid" in errors_of(release)


def test_parts_beside_a_joined_table_are_found(release: Path) -> None:
    (release / "metrics/sources").mkdir()
    shutil.copy(
        release / "metrics/sources.parquet", release / "metrics/sources/000000000013.parquet"
    )
    change_table(release, "sources", "loss_sum", 0, 0.0)
    assert "NumbersDiffer" in errors_of(release)


def test_another_type_or_more_columns_are_found(release: Path) -> None:
    path = release / "metrics/steps.parquet"
    table = pq.read_table(path)
    parquet.write(path, table.append_column("more", table["loss"]))
    assert "FormatInvalid" in errors_of(release)


def test_validation_bytes_that_the_data_does_not_give_are_found(release: Path) -> None:
    def change(body: dict[str, Any]) -> None:
        if body["kind"] == "validation":
            body["sources"][0]["bytes"] = "9999"

    rewrite(release, change)
    assert "ValidationDiffers" in errors_of(release)


@pytest.mark.parametrize("name", ["best", "step060"])
def test_a_stranger_among_the_checkpoints_is_found(name: str, release: Path) -> None:
    shutil.copytree(release / "checkpoints/step6", release / "checkpoints" / name)
    assert "FileAdded" in errors_of(release)


@pytest.mark.parametrize("key", ["documents", "bytes", "name"])
def test_counts_of_the_data_are_checked(key: str, release: Path) -> None:
    path = release / "data/documents/manifest.json"
    content = json.loads(path.read_bytes())
    content["sources"][0][key] = 7 if key == "documents" else "7"
    files.write_json(path, content)
    assert "DataDiffers" in errors_of(release)


def test_one_broken_checkpoint_does_not_hide_another(release: Path) -> None:
    (release / "checkpoints/step0/config.json").unlink()
    (release / "checkpoints/step12/model.safetensors").write_bytes(b"x")
    reseal(release)
    found = {problem.where for problem in checked(release).problems}
    assert {"checkpoints/step0", "checkpoints/step12"} <= found


def test_a_checkpoint_of_no_step_of_the_ledger_is_found(release: Path) -> None:
    shutil.copytree(release / "checkpoints/step6", release / "checkpoints/step7")
    reseal(release)
    found = [
        problem.where
        for problem in checked(release).problems
        if problem.error == "CheckpointDiffers"
    ]
    assert found == ["checkpoints/step7"]


@pytest.mark.parametrize(
    "path", ["record/journal.jsonl", "record/ledger.jsonl", "recipe.toml", "metrics/steps.parquet"]
)
def test_a_folder_where_a_file_should_be_is_a_problem(path: str, release: Path) -> None:
    (release / path).unlink()
    (release / path).mkdir()
    (release / path / "x").touch()
    assert not checked(release).ok


def test_a_ledger_without_a_middle_entry_is_a_problem(release: Path) -> None:
    lines = (release / layout.LEDGER).read_bytes().splitlines(keepends=True)
    (release / layout.LEDGER).write_bytes(b"".join(lines[:7] + lines[8:]))
    assert any("entry 7" in problem.where for problem in checked(release).problems)


def test_a_link_is_not_sealed(release: Path) -> None:
    from pellucid.errors import LinkInside

    (release / "LICENSE").rename(release / "licence")
    (release / "LICENSE").symlink_to("licence")
    with pytest.raises(LinkInside, match="symbolic link"):
        publish(release)


def test_another_batch_is_found(release: Path) -> None:
    rewrite(
        release,
        lambda body: (
            body.update(batch="00" * 32)
            if body.get("step") == 9 and body["kind"] == "step"
            else None
        ),
    )
    reseal(release)
    assert [p.where for p in checked(release).problems if p.error == "BatchDiffers"] == [
        "record/ledger.jsonl: step 9"
    ]


def test_another_token_and_another_text_are_found(release: Path) -> None:
    path = release / "data/shards/00000.train.bin"
    content = bytearray(path.read_bytes())
    content[400] ^= 1
    path.write_bytes(content)
    assert "DataDiffers" in errors_of(release)


def test_weights_of_another_step_are_found(release: Path) -> None:
    """Late weights under an early name, the checkpoint's own metadata and manifest fitted."""
    shutil.copy(
        release / "checkpoints/step12/model.safetensors",
        release / "checkpoints/step6/model.safetensors",
    )
    reseal(release)
    found = [problem for problem in checked(release).problems if problem.error == "StateDiffers"]
    assert {problem.where for problem in found} == {"checkpoints/step6/model.safetensors"}


def test_a_fine_tuned_final_model_is_found(release: Path) -> None:
    weights = {
        name: array.copy()
        for name, array in tensors.Tensors(release / "model.safetensors").arrays().items()
    }
    weights["model.norm.weight"][0] += 1
    (release / "model.safetensors").unlink()
    tensors.write(release / "model.safetensors", weights, {"format": "pt"})
    reseal(release)
    found = [problem for problem in checked(release).problems if problem.error == "StateDiffers"]
    assert {problem.where for problem in found} == {"model.safetensors"}


@pytest.mark.parametrize("group", ["weights", "exp_avg", "exp_avg_sq"])
def test_a_forged_anchor_is_found(group: str, release: Path) -> None:
    forge_anchor(release, 5, group)
    reseal(release)
    found = [problem for problem in checked(release).problems if problem.error == "StateDiffers"]
    assert any(problem.where == "anchors/step5" and group in problem.detail for problem in found)


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json"])
def test_another_tokenizer_or_architecture_is_found(name: str, release: Path) -> None:
    path = release / "checkpoints/step6" / name
    content = (
        path.read_text()
        .replace('"rms_norm_eps": 1e-05', '"rms_norm_eps": 1e-06')
        .replace('"<|document|>"', '"<|documenu|>"')
    )
    path.unlink()
    path.write_text(content)
    assert "CheckpointDiffers" in errors_of(release)


def test_another_recipe_is_found(release: Path) -> None:
    path = release / "recipe.toml"
    path.write_text(path.read_text().replace("beta1 = 0.9", "beta1 = 0.8"))
    assert "LedgerBroken" in errors_of(release)


def test_a_truncated_or_lengthened_ledger_is_found(release: Path) -> None:
    lines = (release / layout.LEDGER).read_bytes().splitlines(keepends=True)
    (release / layout.LEDGER).write_bytes(b"".join(lines[:-1]))
    assert "LedgerIncomplete" in errors_of(release)
    tip = chain.LedgerTip()
    for line in lines:
        tip.take(line)
    extra = chain.line_of({**tip.place(), "kind": "end", "step": 13})
    (release / layout.LEDGER).write_bytes(b"".join([*lines, extra]))
    assert "LedgerBroken" in errors_of(release)


def test_a_changed_journal_is_found(release: Path) -> None:
    path = release / layout.JOURNAL
    path.write_bytes(path.read_bytes().replace(b'"kind":"start"', b'"kind":"stars"', 1))
    assert "JournalBroken" in errors_of(release)


@pytest.mark.parametrize("entry", ["../outside", "/etc/passwd", "a/../../x"])
def test_a_manifest_that_leaves_the_folder_is_refused(entry: str, release: Path) -> None:
    lines = (release / layout.MANIFEST).read_bytes().splitlines(keepends=True)[:-1]
    lines[0] = lines[0].replace(
        b'"files":' + str(len(lines) - 1).encode(), b'"files":' + str(len(lines)).encode()
    )
    lines.insert(1, sealed.line_of({"path": entry, "size": 0, "sha256": "00"}))
    seal_lines(release, lines)
    assert checked(release).problems[0].error == "PathUnsafe"


def seal_lines(release: Path, lines: list[bytes]) -> None:
    import hashlib

    end = json.dumps({"sha256": hashlib.sha256(b"".join(lines)).hexdigest()}).encode()
    (release / layout.MANIFEST).write_bytes(b"".join(lines) + end + b"\n")


def test_a_link_in_a_release_is_refused(release: Path) -> None:
    target = release / "LICENSE"
    target.unlink()
    target.symlink_to("/etc/hostname")
    assert any(problem.error == "LinkInside" for problem in checked(release).problems)
    target.unlink()
    (release / "more").symlink_to("/etc")
    assert any(problem.where in ("more", layout.MANIFEST) for problem in checked(release).problems)


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"{}\n", b"x" * 100_000, b'{"pellucid":9,"head":"x","files":1}\n{}\n{}\n'],
)
def test_a_manifest_that_is_none_is_a_problem(content: bytes, release: Path) -> None:
    (release / layout.MANIFEST).write_bytes(content)
    assert checked(release).problems[0].where == layout.MANIFEST


def test_verify_show_status_and_publish_need_no_torch(finished: Path, tmp_path: Path) -> None:
    """torch is hidden: importing it would fail."""
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError('hidden', name='torch')\n")
    hidden = {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    assert json.loads(pellucid("verify", finished, "--json", env=hidden).stdout)["ok"] is True
    assert json.loads(pellucid("status", finished, "--json", env=hidden).stdout)["steps_done"] == 13
    assert "row 3" in pellucid("show", finished, "step", 3, env=hidden).stdout
    pellucid("publish", finished, env=hidden)
    missing = pellucid("audit", finished, "--step", 3, env=hidden, check=2).stderr
    assert "TorchMissing" in missing and f"without it: {', '.join(READING)}." in missing
    assert "steps" in pellucid("sql", finished, env=hidden).stdout
    for verb in ("where", "trace"):
        pellucid(verb, finished, "a stone", env=hidden)
    # All ran above, but view: it serves until it is stopped, and test_imports.py tests its room.
    assert set(READING) == {"verify", "status", "view", "sql", "where", "trace", "report"}


def test_verify_exits_with_5_and_names_the_problem(release: Path) -> None:
    (release / "LICENSE").write_text("all mine")
    done = pellucid("verify", release, check=5)
    assert "FileDiffers: LICENSE" in done.stdout
    read = json.loads(pellucid("verify", release, "--json", check=5).stdout)
    assert read["ok"] is False and {"error", "where", "detail"} == set(read["problems"][0])
