"""Verify: everything a release claims that can be checked without computing a step, and without torch.

Files against the manifest; the chains; the recipe, the data, every step's batch, the published numbers
and every stored state against the ledger.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pellucid import huggingface
from pellucid.data.order import Order
from pellucid.data.roots import recompute_root
from pellucid.data.streams import Shards
from pellucid.errors import PellucidError
from pellucid.recipe import Recipe
from pellucid.recipe import load as load_recipe
from pellucid.record import digests, entries, merkle, verdict
from pellucid.record.verdict import Plan, Problem
from pellucid.release import manifest
from pellucid.store import anchors, files, layout, log, metrics, tensors
from pellucid.store.ledger import LedgerFile
from pellucid.train.schedule import learning_rate

Watch = Callable[[str], None]


@dataclass
class Report:
    """What was checked, and every problem found."""

    sealed: bool
    seconds: float = 0.0
    checked: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "sealed": self.sealed,
            "seconds": round(self.seconds, 3),
            "checked": self.checked,
            "problems": [problem._asdict() for problem in self.problems],
        }


def verify(folder: Path, watch: Watch) -> Report:
    """Check a run or a release. Wrong content is a problem in the report, never an exception."""
    started = time.perf_counter()
    report = Report(sealed=(folder / layout.MANIFEST).is_file())
    checks: list[tuple[str, Callable[[], Iterator[Problem]]]] = [
        ("files", lambda: manifest.check(folder) if report.sealed else iter(())),
        ("ledger", lambda: _ledger(folder)),
        ("journal", lambda: verdict.journal(layout.JOURNAL, log.read(folder / layout.JOURNAL))),
        ("data", lambda: _data(folder)),
        ("batches", lambda: _batches(folder)),
        ("numbers", lambda: _numbers(folder)),
        ("states", lambda: _states(folder)),
    ]
    for name, check in checks:
        watch(name)
        report.problems += _collected(name, check)
        report.checked.append(name)
    report.seconds = time.perf_counter() - started
    return report


def _collected(name: str, check: Callable[[], Iterator[Problem]]) -> list[Problem]:
    """The problems of one check; content that cannot even be read is one more."""
    problems = []
    try:
        problems.extend(check())
    except PellucidError as error:
        problems.append(Problem(error.name, str(error.fields.get("path", name)), str(error)))
    except FileNotFoundError as error:
        problems.append(Problem("FileMissing", str(error.filename), "is needed for this check and is not there"))
    except (ValueError, KeyError, TypeError, IndexError, OverflowError) as error:
        # A reader met content it could not make sense of; the file check names the file.
        problems.append(Problem("FormatInvalid", name, f"{type(error).__name__}: {error}"))
    return problems


def plan_of(recipe: Recipe) -> Plan:
    return Plan(
        recipe=recipe.digest().hex(),
        steps=recipe.train.steps,
        tokens_per_step=recipe.train.batch * recipe.model.context,
        validates=lambda step: recipe.scheduled(recipe.validation.every, step),
        checkpoints=lambda step: recipe.scheduled(recipe.checkpoints.every, step),
        learning_rate=lambda step: learning_rate(recipe.train, step),
    )


def _ledger(folder: Path) -> Iterator[Problem]:
    yield from verdict.judge(layout.LEDGER, log.read(folder / layout.LEDGER), plan_of(load_recipe(folder)))
    if (folder / layout.MANIFEST).is_file():
        head, sealed = LedgerFile(folder).head, manifest.read(folder).head
        if head != sealed:
            yield Problem("LedgerBroken", f"{layout.LEDGER}: last entry", f"the head is {head}, and was {sealed} when sealed")


def _data(folder: Path) -> Iterator[Problem]:
    """The data root from every document and every token, and the tokenizer's digest."""
    genesis = LedgerFile(folder).genesis
    root, problems = recompute_root(folder, load_recipe(folder))
    for where, detail in problems:
        yield Problem("DataDiffers", where, detail)
    if root != genesis["data"]:
        yield Problem("DataDiffers", "data", f"the documents and tokens give the root {root}, not {genesis['data']}")


def _batches(folder: Path, chunk: int = 256) -> Iterator[Problem]:
    """Every step's batch, from the order and the shards, against its entry."""
    recipe, ledger, tokens = load_recipe(folder), LedgerFile(folder), Shards.open(folder)
    order = Order.of(recipe, tokens)
    recorded = (body for body in ledger.between(1, ledger.steps_done) if body["kind"] == "step")
    for first in range(1, ledger.steps_done + 1, chunk):
        last = min(first + chunk - 1, ledger.steps_done)
        for step, sequences in enumerate(order.batches(first, last), first):
            rows = zip(sequences.tolist(), tokens.sequences_at(sequences), strict=True)
            found = merkle.root(digests.sequence_leaf(recipe.seed, sequence, row) for sequence, row in rows).hex()
            entry = next(recorded)
            if found != entry["batch"]:
                detail = f"the order and the shards give the batch {found}, and the ledger records {entry['batch']}"
                yield Problem("BatchDiffers", f"step {step}", detail)


def _numbers(folder: Path) -> Iterator[Problem]:
    """The published metrics against the ledger: losses follow from segments, and segments are committed."""
    recipe, ledger = load_recipe(folder), LedgerFile(folder)
    segments = _by_step(folder, "segments")
    rows = (row for batch in metrics.rows(folder, "steps") for row in batch.to_pylist())
    for body in ledger.between(1, ledger.steps_done):
        if body["kind"] == "step":
            yield from _step_numbers(body, next(rows, {}), next(segments, []), recipe)
    published = {(row["step"], row["source"]): row for b in metrics.rows(folder, "validation") for row in b.to_pylist()}
    for body in ledger.of_kind("validation"):
        for one in body["sources"]:
            row = published.get((body["step"], one["source"]), {})
            said = (digests.float_bits(row["loss_sum"]), str(row["tokens"]), str(row["bytes"])) if row else None
            if said != (one["loss_sum"], one["tokens"], one["bytes"]):
                where = f"step {body['step']}, {one['source']}"
                yield Problem("NumbersDiffer", "metrics/validation.parquet", f"{where}: not what the ledger records")


def _by_step(folder: Path, table: str) -> Iterator[list[dict[str, Any]]]:
    """The rows of a table, a list for each step, in order."""
    rows: list[dict[str, Any]] = []
    for batch in metrics.rows(folder, table):
        for row in batch.to_pylist():
            if rows and row["step"] != rows[0]["step"]:
                yield rows
                rows = []
            rows.append(row)
    yield rows


def _step_numbers(body: dict[str, Any], row: dict[str, Any], found: list[dict[str, Any]], recipe: Recipe) -> Iterator[Problem]:
    step = body["step"]
    for name in ("loss", "lr", "grad_norm", "weight_norm"):
        if row.get("step") != step or digests.float_bits(row[name]) != body[name]:
            detail = f"step {step}: {name} is {row.get(name)}, and the ledger records {digests.bits_float(body[name])}"
            yield Problem("NumbersDiffer", "metrics/steps.parquet", detail)
    segments = [entries.Segment(r["row"], r["document"], r["start"], r["tokens"], r["loss_sum"]) for r in found]
    if not found or found[0]["step"] != step:
        yield Problem("NumbersDiffer", "metrics/segments.parquet", f"step {step}: no segments")
    elif entries.segments_root(segments, recipe.train.batch).hex() != body["segments"]:
        yield Problem("NumbersDiffer", "metrics/segments.parquet", f"step {step}: not the segments the ledger commits to")
    else:
        loss = math.fsum(one.loss_sum for one in segments) / sum(one.tokens for one in segments)
        if digests.float_bits(loss) != body["loss"]:
            recorded = digests.bits_float(body["loss"])
            detail = f"its segments give the loss {loss}, and the ledger records {recorded}"
            yield Problem("LossDiffers", f"{layout.LEDGER}: step {step}", detail)


def _states(folder: Path) -> Iterator[Problem]:
    """Every stored state and checkpoint against the ledger, and the files of every checkpoint."""
    recipe, ledger = load_recipe(folder), LedgerFile(folder)
    tokenizer = files.read_json(folder / layout.TOKENIZER / "manifest.json")
    config = huggingface.architecture(recipe.model, tokenizer["vocabulary"], tokenizer["document_token"])
    hashed: dict[tuple[int, int], bytes] = {}  # A file that is linked in several places is hashed once.
    for step in layout.steps_in(folder / layout.ANCHORS):
        try:
            anchors.check(folder, step, ledger.step(step)["state"])
            hashed[_file(layout.anchor(folder, step) / anchors.WEIGHTS)] = bytes.fromhex(ledger.step(step)["weights"])
        except PellucidError as error:
            yield Problem(error.name, f"{layout.ANCHORS}/{layout.step_name(step)}", str(error))
    places = {body["step"]: layout.checkpoint(folder, body["step"]) for body in ledger.of_kind("checkpoint")}
    roots = {body["step"]: body["root"] for body in ledger.of_kind("checkpoint")}
    for step, place in [*places.items(), *([(ledger.steps_done, folder)] if ledger.ended else [])]:
        weights = place / huggingface.WEIGHTS
        root = hashed.get(_file(weights)) or digests.tensors_root(tensors.Tensors(weights).leaves())
        where = place.relative_to(folder).as_posix()
        if root.hex() != ledger.step(step)["weights"]:
            path = weights.relative_to(folder).as_posix()
            yield Problem("StateDiffers", path, f"not the weights the ledger records for step {step}")
        found = entries.checkpoint_root(root.hex(), tokenizer["digest"], files.read_json(place / "config.json"))
        if found.hex() != roots[step] or files.read_json(place / "config.json") != config:
            yield Problem("CheckpointDiffers", where, f"not the checkpoint the ledger records for step {step}")
        if files.sha256_file(place / "tokenizer.json") != files.sha256_file(folder / layout.TOKENIZER / "tokenizer.json"):
            yield Problem("CheckpointDiffers", f"{where}/tokenizer.json", "not the tokenizer of this run")


def _file(path: Path) -> tuple[int, int]:
    about = path.stat()
    return about.st_dev, about.st_ino
