"""The joint between training and record: events go in; ledger, metrics,
anchors and checkpoints come out.

It wraps any trainer that can show its state as named arrays:

    with Recorder(folder, recipe, identity, after=step) as record:
        record.begin(groups)                      # the state before the first step
        record.keep(groups)
        for stepped, groups in my_trainer():
            record.step(stepped, groups)          # one ledger entry, metrics rows
            record.keep(groups)                   # checkpoint and anchor, where they are due
        record.end()

Where the recipe has guards, record.incidents tells after each step what
they decided (record/guards.py).

A step that is taken again, after a crash, is compared with the entry that exists; only what is new
is appended. Files are written by one thread beside the training, in order: metrics, checkpoint,
anchor. An anchor therefore means that everything up to its step is on disk. Rows do not wait for
it: memory holds store.metrics.HELD of them."""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pellucid import huggingface, machine
from pellucid.data import leaves
from pellucid.data.salts import Salts
from pellucid.data.tokenizer import Tokenizer
from pellucid.errors import LedgerDiffers, NotFinite
from pellucid.recipe import Recipe
from pellucid.record import chain, entries, rows
from pellucid.record.entries import Microbatch, Segment, StateRoots
from pellucid.record.guards import Guards, needed
from pellucid.record.history import History, with_branch
from pellucid.schedule import Phase
from pellucid.store import anchors, files, layout, log, metrics, tensors
from pellucid.store.ledger import LedgerFile
from pellucid.train.events import Batch, Groups, Stepped, Validated

LN2 = 0.6931471805599453


@dataclass(frozen=True, slots=True)
class Identity:
    """What a run follows from besides its recipe."""

    data: str  # Hex: the data root.
    tokenizer: str  # Hex: the tokenizer's digest.
    arithmetic: str  # "native 1".
    stack: dict[str, str] | None  # What native bits depend on; None on portable arithmetic.
    config: dict[str, Any]  # The checkpoints' config.json.
    salts: Salts  # Of the documents, in the leaves of rows.


class Ledger:
    """The ledger of a run that goes on after a step: compares what exists, then appends."""

    def __init__(self, folder: Path, recipe: Recipe, after: int | None) -> None:
        self._log = log.Log(folder / layout.LEDGER, chain.LedgerTip())
        self.torn = self._log.torn
        self._written = LedgerFile(folder) if self._log.tip.n else None
        self._existing = self._after(after)
        self._next = next(self._existing, None)
        self.guards = self._guards(recipe, after)
        self.entry: dict[str, Any] = {}  # The last step's, or the genesis.

    def _after(self, after: int | None) -> Iterator[dict[str, Any]]:
        """The entries that will be made again: those after a step's and the end, or all of them;
        without what a rollback abandoned."""
        if self._written is None:
            return
        first = -1 if after is None else after
        for body in self._written.between(first, self._written.steps_done):
            if body.get("action") != "stop" and (
                body.get("step", 0) > first or body["kind"] == "end"
            ):
                yield body
        # The step that a stop names may be the one that training continues from.
        if self._written.last.get("action") == "stop":
            yield self._written.last

    def _guards(self, recipe: Recipe, after: int | None) -> Guards:
        """The guards, knowing what they knew after a step."""
        rules = recipe.rules()
        if self._written is None:
            return Guards(rules, History.begun(recipe.first))
        last = recipe.first if after is None else after
        before = self._written.between(max(recipe.first, last - needed(rules)) + 1, last)
        return Guards(
            rules, self._written.history, (body for body in before if body["kind"] == "step")
        )

    def put(self, body: dict[str, Any]) -> None:
        # An incident of no finite number names the step before the offending one, which may lie in
        # an earlier branch.
        step = body.get("step", 0) + (body.get("rule") == "not_finite")
        body = with_branch(body, self.guards.history.at(step).branch)
        entry, self._next = self._next, next(self._existing, None)
        if entry is None:
            entry = self._log.append(body)
        else:
            compare(entry, body)
        if body["kind"] in ("genesis", "step"):
            self.entry = entry

    def sync(self) -> None:
        self._log.sync()

    def close(self) -> None:
        self._log.close()


def compare(recorded: dict[str, Any], computed: dict[str, Any]) -> None:
    """Raises LedgerDiffers with the first field that is not as recorded."""
    for field in dict.fromkeys([*computed, *recorded]):
        if field not in chain.PLACE and recorded.get(field) != computed.get(field):
            place = f"step {computed['step']}" if "step" in computed else "genesis"
            if computed["kind"] not in ("step", "genesis"):
                place += f", {computed['kind']}"
            raise LedgerDiffers(
                where=place, field=field, found=computed.get(field), recorded=recorded.get(field)
            )


class Recorder:
    """See the module. Raises LedgerDiffers, DiskFull, NoPermission, LedgerBroken."""

    def __init__(
        self, folder: Path, recipe: Recipe, identity: Identity, after: int | None = None
    ) -> None:
        self.folder, self.recipe, self.identity = folder, recipe, identity
        self._schedule = recipe.schedule
        self._ledger = Ledger(folder, recipe, after)
        self.torn = self._ledger.torn
        # That the last step, or what came instead of it, was followed by.
        self.incidents: list[dict[str, Any]] = []
        self._metrics = metrics.Metrics(folder)
        self._metrics.forget_after(-1 if after is None else after)
        self._roots: StateRoots | None = None
        self._step = recipe.first if after is None else after
        self._writer = Writer()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()
        self._ledger.close()

    def begin(self, groups: Groups) -> None:
        """The genesis, from the state before the first step."""
        self._roots = tensors.state_roots(self.recipe.first, groups)
        self._ledger.put(genesis_of(self.recipe, self.identity, self._roots))

    def step(self, stepped: Stepped, groups: Groups) -> float:
        """One step: its ledger entry and its rows. Returns its loss in nats per token."""
        if self._metrics.full:  # With all of the step before, its validation too.
            last, rows = self._step, self._metrics.take()
            self._writer.put(lambda: self._metrics.write_part(last, rows))
        self._step = stepped.batch.step
        self._roots = tensors.state_roots(self._step, groups)
        segments = segments_of(stepped.batch, stepped.losses_BT)
        entry = step_entry(stepped, segments, self._roots, self.recipe, self.identity)
        self._ledger.put(entry)
        self._add_rows(stepped, segments)
        self._decide(self._ledger.guards.step(entry))
        return loss_of(segments)

    def not_finite(self, error: NotFinite) -> None:
        """What the guards decide about a step or a validation that gave no finite number."""
        quantity, value = str(error.fields["quantity"]), str(error.fields["value"])
        self._decide([self._ledger.guards.not_finite(self._step, quantity, value)])

    def _decide(self, incidents: list[dict[str, Any]]) -> None:
        self.incidents = incidents
        if incidents and incidents[-1]["action"] != "note":
            # Nothing can make these rows again once the ledger says that the
            # run does not go on from here.
            self._writer.drain()
            self._metrics.write_part(self._step, self._metrics.take())
        for incident in incidents:
            self._ledger.put(incident)
        if incidents:
            self._ledger.sync()

    def validation(self, validated: Validated) -> None:
        self._ledger.put(entries.validation(validated.step, validated.sources))
        self._metrics.add("validation", *validation_rows(validated))

    def keep(self, groups: Groups, force: bool = False) -> None:
        """Store the state where the recipe wants a checkpoint and the placement an anchor.

        force stores an anchor whatever the placement says. Waits for the disk only where the
        previous state is still being written.
        """
        step, recipe = self._step, self.recipe
        checkpoint, anchor = (
            recipe.scheduled(recipe.checkpoints.every, step),
            force or recipe.anchored(step),
        )
        if checkpoint:
            roots = self._current()
            self._ledger.put(
                entries.checkpoint(
                    step, roots.weights.hex(), self.identity.tokenizer, self._config(step)
                )
            )
        if checkpoint or anchor:
            stored = groups if anchor else {"weights": groups["weights"]}
            copies = {
                group: {name: array.copy() for name, array in g.items()}
                for group, g in stored.items()
            }
            # The writer gets copies: training changes its arrays in place meanwhile.
            about, rows = self._about(), self._metrics.take()
            self._writer.put(lambda: self._write(step, copies, about, rows, checkpoint, anchor))

    def end(self) -> None:
        """The last entry, the metrics in one file a table, and everything on disk."""
        self._ledger.put(entries.end(self._step))
        self._writer.drain()
        self._ledger.sync()
        self._metrics.join()

    def flush(self) -> None:
        """Wait until everything handed over is on disk."""
        self._writer.drain()

    def _current(self) -> StateRoots:
        assert self._roots is not None, "keep() comes after begin() or step()"
        return self._roots

    def _config(self, step: int) -> dict[str, Any]:
        """The config.json of a step's checkpoint."""
        return huggingface.with_theta(self.identity.config, self._schedule.at(step).rope_theta)

    def _about(self) -> dict[str, Any]:
        return anchors.about(self._ledger.entry, self._current())

    def _write(
        self,
        step: int,
        groups: Groups,
        about: dict[str, Any],
        rows: Any,
        checkpoint: bool,
        anchor: bool,
    ) -> None:
        # In this order: the anchor says that all before it is complete.
        self._ledger.sync()
        self._metrics.write_part(step, rows)
        if checkpoint:
            place, config = layout.checkpoint(self.folder, step), self._config(step)
            identity = self.recipe.fork.identity(about)
            write_checkpoint(self.folder, place, groups, identity, config)
        if anchor:
            weights = layout.checkpoint(self.folder, step) / anchors.WEIGHTS if checkpoint else None
            anchors.write(layout.anchor(self.folder, step), groups, about, weights)

    def _add_rows(self, stepped: Stepped, segments: list[Segment]) -> None:
        batch, step, tokens = stepped.batch, stepped.batch.step, stepped.losses_BT.size
        phase = self._schedule.at(step)
        known = (step, phase.name, self._schedule.tokens(step), loss_of(segments))
        objective = objective_of(batch, stepped.microbatches, phase)
        computed = (objective, stepped.lr, stepped.grad_norm, stepped.weight_norm)
        measured = (stepped.seconds, tokens / stepped.seconds, machine.peak())
        self._metrics.add("steps", (*known, *computed, *measured))
        for table, own in rows_of(batch, segments).items():
            self._metrics.add(table, *own)
        self._metrics.add("microbatches", *microbatch_rows(step, stepped.microbatches))


def rows_of(batch: Batch, segments: list[Segment]) -> dict[str, list[tuple[Any, ...]]]:
    """The rows of a step in the tables segments, sequences and sources: all of
    them follow from its segments."""
    step, T = batch.step, batch.tokens_BS.shape[1] - 1
    sums: list[list[float]] = [[] for _ in batch.sources_B]
    for segment in segments:
        sums[segment.row].append(segment.loss_sum)
    sources = sorted(set(batch.sources_B))
    by_source = {
        name: [x for own, of in zip(sums, batch.sources_B, strict=True) if of == name for x in own]
        for name in sources
    }
    columns = (
        batch.epochs_B.tolist(),
        batch.sources_B,
        batch.blocks_B.tolist(),
        batch.starts_B.tolist(),
    )
    places = zip(*columns, sums, strict=True)
    return {
        "segments": [
            (step, s.row, s.document, s.start, s.tokens, s.weight, s.loss_sum) for s in segments
        ],
        "sequences": [
            (step, row, *place, T, math.fsum(own)) for row, (*place, own) in enumerate(places)
        ],
        "sources": [
            (step, name, batch.sources_B.count(name) * T, math.fsum(by_source[name]))
            for name in sources
        ],
    }


def microbatch_rows(step: int, microbatches: list[Microbatch]) -> list[tuple[Any, ...]]:
    """The rows of a step in the table microbatches: what its leaves hold."""
    return [
        (step, index, m.tokens, m.weight, m.loss_sum, m.objective, m.gradient_root.hex())
        for index, m in enumerate(microbatches)
    ]


def microbatches_in(rows: list[tuple[Any, ...]]) -> list[Microbatch]:
    """The inverse of microbatch_rows. Raises ValueError where a gradient_root is not hex."""
    return [
        Microbatch(tokens, weight, loss_sum, objective, bytes.fromhex(root))
        for _, _, tokens, weight, loss_sum, objective, root in rows
    ]


def validation_rows(validated: Validated) -> list[tuple[Any, ...]]:
    """The rows of a validation in its table."""
    rows = []
    for source in validated.sources:
        nats, tokens, size = source["loss_sum"], source["tokens"], source["bytes"]
        rows.append(
            (validated.step, source["source"], tokens, size, nats, nats / tokens, nats / LN2 / size)
        )
    return rows


def genesis_of(recipe: Recipe, identity: Identity, initial: StateRoots) -> dict[str, Any]:
    return entries.genesis(
        recipe=recipe.digest(),
        recipe_version=recipe.version,
        arithmetic=identity.arithmetic,
        pipeline=recipe.data.pipeline,
        data=identity.data,
        tokenizer=identity.tokenizer,
        initial=initial,
        stack=identity.stack,
        parent=(recipe.first, recipe.fork.tokens, recipe.fork.parent)
        if recipe.fork.parent
        else None,
    )


def step_entry(
    stepped: Stepped, segments: list[Segment], after: StateRoots, recipe: Recipe, identity: Identity
) -> dict[str, Any]:
    """The ledger entry of a step: the recorder writes it, an audit makes it again."""
    batch = stepped.batch
    return entries.step(
        number=batch.step,
        tokens_so_far=recipe.schedule.tokens(batch.step),
        row_leaves=row_leaves(batch, recipe, identity.salts),
        microbatches=stepped.microbatches,
        segments=segments,
        loss=loss_of(segments),
        lr=stepped.lr,
        grad_norm=stepped.grad_norm,
        weight_norm=stepped.weight_norm,
        after=after,
    )


def row_leaves(batch: Batch, recipe: Recipe, salts: Salts) -> list[bytes]:
    """The leaves of a batch's rows: what each trains on, and how."""
    hashes, ids = [], batch.tokens_BS.shape[1]
    for row, place in enumerate(zip(batch.blocks_B.tolist(), batch.starts_B.tolist(), strict=True)):
        documents_S = batch.documents_BS[row]
        parts = leaves.part_leaves(
            salts, batch.tokens_BS[row], documents_S, int(batch.firsts_B[row])
        )
        hashes.append(rows.row_leaf(*place, ids, use_of(batch, row, recipe), parts))
    return hashes


def use_of(batch: Batch, row: int, recipe: Recipe) -> rows.Use:
    """How a row of T + 1 ids is trained on: its targets' weights, with all before it in sight or
    its own document's alone, and its group."""
    documents_S = batch.documents_BS[row]
    use = rows.Use.whole(T := len(documents_S) - 1)
    if recipe.model.attention == "within":
        use = use._replace(attention=tuple(count for count, _ in _runs(documents_S[:-1])))
    if batch.weights_BT is not None:
        use = use._replace(weights=tuple(_runs(batch.weights_BT[row])))
    assert sum(use.attention) == T, "every input lies in a stretch"
    return use if batch.groups_B is None else use._replace(group=int(batch.groups_B[row]))


def _runs(values_N: np.ndarray) -> list[tuple[int, int]]:
    """(how many, of which value) of the neighbours that are equal, as long as they can be."""
    cuts = np.flatnonzero(np.diff(values_N)) + 1
    lengths = np.diff(cuts, prepend=0, append=len(values_N))
    return list(zip(lengths.tolist(), values_N[np.append(0, cuts)].tolist(), strict=True))


def bounds_of(batch: Batch) -> list[tuple[int, int, int, int, int]]:
    """(row, document, start, tokens, weight) of every segment of a batch, in order, counted by its
    targets."""
    targets_BT = batch.documents_BS[:, 1:]
    weights_BT = np.ones(targets_BT.shape, np.uint32)
    if batch.weights_BT is not None:
        weights_BT = batch.weights_BT
    starts_BT = np.ones(targets_BT.shape, bool)
    starts_BT[:, 1:] = targets_BT[:, 1:] != targets_BT[:, :-1]
    starts_BT[:, 1:] |= weights_BT[:, 1:] != weights_BT[:, :-1]
    rows, starts = np.nonzero(starts_BT)
    flat = rows * targets_BT.shape[1] + starts
    tokens = np.diff(np.append(flat, targets_BT.size))
    columns = (rows, targets_BT[rows, starts], starts, tokens, weights_BT[rows, starts])
    return list(zip(*(column.tolist() for column in columns), strict=True))


def segments_of(batch: Batch, losses_BT: np.ndarray) -> list[Segment]:
    """The segments of a batch, each with the exactly rounded sum of its losses.

    math.fsum gives the float64 nearest to the exact sum, whatever the order: nothing to agree on.
    """
    losses, T, segments = losses_BT.ravel().tolist(), losses_BT.shape[1], []
    for row, document, start, tokens, weight in bounds_of(batch):
        first = row * T + start
        loss_sum = math.fsum(losses[first : first + tokens])
        segments.append(Segment(row, document, start, tokens, weight, loss_sum))
    return segments


def loss_of(segments: list[Segment]) -> float:
    """The mean loss of a step in nats per token, each target counted by its weight, from its
    segments alone."""
    weight = sum(segment.weight * segment.tokens for segment in segments)
    return math.fsum(segment.weight * segment.loss_sum for segment in segments) / weight


def objective_of(batch: Batch, microbatches: list[Microbatch], phase: Phase) -> float:
    """What a step minimised, from its microbatches alone."""
    total = math.fsum(microbatch.objective for microbatch in microbatches)
    return total / phase.objective.divisor_of(batch.use)


def write_checkpoint(
    folder: Path, target: Path, groups: Groups, identity: dict[str, Any], config: dict[str, Any]
) -> None:
    """A complete Hugging Face folder of a step; folder is the run, whose tokenizer it takes, and
    identity its pellucid.json."""
    with files.whole_folder(target) as partial:
        weights = partial / anchors.WEIGHTS
        tensors.write(weights, groups["weights"], anchors.weights_metadata(identity))
        huggingface.write_checkpoint(partial, weights, Tokenizer.load(folder), config, identity)


class Writer:
    """One thread that writes files in the order given; its error is raised at the next call."""

    def __init__(self) -> None:
        # A job holds a copy of a state: one waits at most, or memory would fill.
        self._jobs: queue.Queue[Any] = queue.Queue(maxsize=1)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="recorder", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                if self._error is None:  # After a failure nothing later may appear.
                    job()
            except BaseException as error:  # noqa: BLE001 - handed to the training thread whole.
                self._error = error
            finally:
                self._jobs.task_done()
        self._jobs.task_done()

    def put(self, job: Any) -> None:
        self._raise()
        self._jobs.put(job)

    def drain(self) -> None:
        self._jobs.join()
        self._raise()

    def close(self) -> None:
        self._jobs.put(None)
        self._thread.join()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error
