"""A run in Python: `run = pellucid.open("mymodel")`. Nothing is read until it is asked for.

    run.step(120).batch()       the tokens that step trained on, x_BS
    run.step(120).documents()   the documents they are of
    run.step(120).state()       the full training state after it, replayed from the nearest anchor
    run.document("books/a.txt") a document, and where it was seen
    run.sql("from steps")       an Arrow table
    run.where("some text")      where a text occurs in the training data, and when it was seen

The ledger and the tables are taken as they stand; `run.verify()` checks them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pellucid.data.order import Order
from pellucid.errors import FolderNeeded, RunMissing, StepUnknown
from pellucid.evaluate import builtin
from pellucid.forked import fork_of, tokens_in_words
from pellucid.look.show import Shown
from pellucid.look.status import printed
from pellucid.measured import stored, variants
from pellucid.measured.summary import Summary, summary
from pellucid.notebook import fork_told, table
from pellucid.recipe import FILE, Recipe
from pellucid.recipe import load as load_recipe
from pellucid.record import chain, digests
from pellucid.store import layout
from pellucid.store.home import home
from pellucid.store.ledger import LedgerFile, begun
from pellucid.store.remote import RemotePath
from pellucid.terminal import plain
from pellucid.train.events import Batch

if TYPE_CHECKING:
    from pellucid.record.evaluations import Line
    from pellucid.release.verify import Report
    from pellucid.trace.where import Traced
    from pellucid.train.state import State


def open(path: str | Path) -> Run:
    """A run folder, a release or its URL, opened for looking. Raises RunMissing, and for a
    URL what store/home.py raises."""
    folder = home(path)
    if not (folder / FILE).is_file():
        raise RunMissing(path=folder)
    return Run(folder)


class Run:
    """A run as it stood when it was first asked something. Make one with pellucid.open.

    Iterating over it gives its steps, first to last; len(run) tells how many there are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def recipe(self) -> Recipe:
        """What the run follows from."""
        return load_recipe(self.folder)

    @cached_property
    def ledger(self) -> LedgerFile:
        """The ledger, opened for questions. Raises NotTrained where there is none yet."""
        return LedgerFile(self.folder)

    @property
    def head(self) -> str:
        """The digest of the ledger's last entry, in hex: equal heads are equal runs."""
        return self.ledger.head

    @property
    def first(self) -> int:
        """The step whose state the run begins with: 0, or a fork's."""
        return self.ledger.first

    @property
    def fork(self) -> dict[str, Any] | None:
        """What a fork claims of the run before it (`parent`, `step`, `tokens`), its own steps and
        tokens, and what it goes without. None where the run is no fork."""
        ledger = begun(self.folder)
        return fork_of(self.recipe, ledger and ledger.step(ledger.steps_done))

    @property
    def last(self) -> int:
        """The last step taken."""
        return self.ledger.steps_done

    @cached_property
    def shown(self) -> Shown:
        """Its data: shards, documents, tokenizer and order. Raises
        StageNotReady before it is prepared."""
        return Shown(self.folder)

    @cached_property
    def order(self) -> Order:
        """Which rows each of its steps trained on."""
        return self.shown.order.along(self.ledger.history.rollbacks)

    def status(self) -> dict[str, Any]:
        """Where the run stands, as `pellucid status --json` prints it."""
        return printed(self.folder)

    @cached_property
    def evaluations(self) -> list[Evaluation]:
        """The evaluations that it keeps of its weights, the oldest first. Raises
        EvaluationBroken, TaskDiffers."""
        return [Evaluation(self, entry) for entry in builtin.of_run(self.folder)]

    def step(self, step: int | str) -> Step:
        """A step: 120 or "step120"; `first` is the state that the run
        begins with. Raises StepUnknown."""
        number = layout.step_number(str(step))
        if number is None or not self.first <= number <= self.last:
            detail = f"the ledger goes from step {self.first} to step {self.last}"
            raise StepUnknown(what=f"Step {step}", detail=detail)
        return Step(self, number)

    def __len__(self) -> int:
        return self.last - self.first

    def __iter__(self) -> Iterator[Step]:
        return (Step(self, number) for number in range(self.first + 1, self.last + 1))

    def block(self, number: int) -> Block:
        """A train block. Raises StepUnknown."""
        return Block(self, number)

    def document(self, document: str | int) -> Document:
        """A document by its id or its index. Raises DocumentUnknown."""
        documents = self.shown.documents
        return Document(
            self, documents.get(documents.find(document) if isinstance(document, str) else document)
        )

    def documents(self) -> Iterator[Document]:
        """Every document in order, one row group in memory at a time."""
        for index in range(self.shown.documents.count):
            yield self.document(index)

    def sql(self, query: str, seconds: float | None = None) -> pa.Table:
        """The answer to a SELECT over the views of docs/sql.md, as an Arrow table:
        `.to_pandas()` where pandas is.

        Raises QueryInvalid, and QueryStopped after so many seconds.
        """
        from pellucid.sql import sql

        return sql(self.folder, query, seconds)

    def where(
        self,
        text: str,
        before: int | None = None,
        limit: int | None = None,
        ignore_case: bool = False,
        fold_space: bool = False,
    ) -> dict[str, Any]:
        """How often a text occurs in the training data (`count`), and the places
        (`hits`), all or the first `limit`, with their documents and the steps that saw
        them. See pellucid.trace.where."""
        return self._traced.where(text, before, limit, ignore_case, fold_space)

    def trace(
        self, text: str, before: int | None = None, least: int = 24, limit: int | None = None
    ) -> dict[str, Any]:
        """The longest `spans` of a text, of at least so many characters, that occur in what was
        trained on before a step. See pellucid.trace.where."""
        return self._traced.trace(text, before, least, limit)

    @cached_property
    def _traced(self) -> Traced:
        """Its index, opened: what it has read of it stays at hand."""
        from pellucid.trace.where import Traced

        return Traced(self.folder)

    def rows(self, proof: bytes, head: str, first: int, last: int) -> np.ndarray:
        """The rows first .. last - 1 of the tensor that a proof is of (`pellucid prove RUN tensor
        NAME --rows A:B`), shape (last - first, …). They alone are read, of a release behind a URL
        by ranges, and held against the head, which is not taken from the run.

        Raises ProofInvalid, ChunkDiffers, RowsUnknown, StateNotKept.
        """
        from pellucid.prove import read_rows

        return read_rows(self.folder, proof, head, first, last)

    def verify(self) -> Report:
        """What `pellucid verify` checks: `.ok` and `.problems`.
        Computes no step and needs no torch.

        Raises FolderNeeded for a URL: all of a release is checked, or nothing."""
        from pellucid.release.verify import verify

        if isinstance(self.folder, RemotePath):
            raise FolderNeeded(what="verify()", url=str(self.folder))

        return verify(self.folder, lambda what: None)

    def __repr__(self) -> str:
        return f"pellucid.open({plain(repr(str(self.folder)))})"

    def _repr_html_(self) -> str:
        about = printed(self.folder)
        stands = f"step {about['steps_done']:,} of {about['steps']:,}"
        validated = about["validation"][-1:]
        return table(
            about["run"],
            {
                **fork_told(about["fork"]),
                "stands at": f"{stands}, {'finished' if about['finished'] else 'in training'}",
                "sealed": "yes" if about["sealed"] else "no",
                "head": about["head"],
                "tokens": tokens_in_words(int(about["tokens"]), about["fork"]),
                "loss": about["loss"],
                "validation": validated[0]["loss"] if validated else None,
                "checkpoints": ", ".join(map(str, about["checkpoints"])),
                **({"evaluations": f"{kept:,}"} if (kept := about["evaluations"]) else {}),
            },
        )


class Step:
    """A step of a run. Make one with run.step."""

    def __init__(self, run: Run, number: int) -> None:
        self.run, self.number = run, number

    @cached_property
    def entry(self) -> dict[str, Any]:
        """Its entry in the ledger, as written there: floats as hex bits. The
        genesis for the very first state."""
        return self.run.ledger.step(self.number)

    @property
    def digest(self) -> str:
        """The digest of its entry, in hex: the head that the run had then."""
        return chain.digest_of_body(self.entry)

    @property
    def tokens(self) -> int:
        """Targets so far; of a fork with those that it claims for the run before it."""
        return int(self.entry.get("tokens", "0"))

    @property
    def loss(self) -> float:
        """Mean over its targets before its update, in nats per token. Raises
        StepUnknown where no step was taken."""
        return self._number("loss")

    @property
    def lr(self) -> float:
        """The learning rate. Raises StepUnknown where no step was taken."""
        return self._number("lr")

    @property
    def grad_norm(self) -> float:
        """Norm of the gradient before clipping. Raises StepUnknown where no step was taken."""
        return self._number("grad_norm")

    @property
    def weight_norm(self) -> float:
        """Norm of the weights after the update. Raises StepUnknown where no step was taken."""
        return self._number("weight_norm")

    @cached_property
    def trained_on(self) -> Batch:
        """The batch with its blocks, sources, epochs and the document of each token. Raises
        StepUnknown for the very first state."""
        self._require_taken()
        shown, order = self.run.shown, self.run.order
        return Batch.of(
            shown.shards, self.number, order.rows(self.number), order.phase(self.number).context
        )

    def batch(self) -> np.ndarray:
        """The token ids it trained on, x_BS of shape (batch, T+1), uint32: x[:, :-1]
        went in, x[:, 1:] are the targets.

        Raises StepUnknown for the very first state.
        """
        return self.trained_on.tokens_BS

    def blocks(self) -> list[Block]:
        """The block of each row. Raises StepUnknown for the very first state."""
        return [self.run.block(number) for number in self.trained_on.blocks_B.tolist()]

    def documents(self) -> list[Document]:
        """The documents that its batch holds something of, each once, row by row. Raises
        StepUnknown for the very first state."""
        indices = dict.fromkeys(self.trained_on.documents_BS.ravel().tolist())
        return [self.run.document(index) for index in indices]

    def segments(self) -> pa.Table:
        """Its rows of the view `segments`, each with its loss. Empty while the
        run has not written them yet."""
        return self.run.sql(
            f"SELECT * FROM segments WHERE step = {self.number} ORDER BY row, start"
        )

    def state(self) -> State:
        """The full training state after it, replayed where it is not stored, and equal to the
        recorded one: `.model` is a torch module, `.groups()` all tensors as arrays. Needs torch.

        Raises StateDiffers, LedgerDiffers, StackDiffers.
        """
        from pellucid.inputs import Inputs
        from pellucid.replay.materialise import materialise

        return materialise(
            Inputs.load(self.run.folder, self.run.recipe), self.number, lambda done, total: None
        )

    def checkpoint(self) -> Path | None:
        """The folder with its published weights, for from_pretrained; None where it has none."""
        path = layout.checkpoint(self.run.folder, self.number)
        return path if path.is_dir() else None

    def _require_taken(self) -> None:
        if self.number == self.run.first:
            detail = f"the run begins with its state, and the first step is {self.number + 1}"
            raise StepUnknown(what=f"A batch of step {self.number}", detail=detail)

    def _number(self, name: str) -> float:
        self._require_taken()
        return digests.bits_float(self.entry[name])

    def __repr__(self) -> str:
        return f"{self.run!r}.step({self.number})"

    def _repr_html_(self) -> str:
        numbers = ("loss", "lr", "grad_norm", "weight_norm") if self.number > self.run.first else ()
        fork = fork_of(self.run.recipe, self.entry)
        about = {name: self._number(name) for name in numbers}
        return table(
            f"step {self.number}",
            {
                **fork_told(fork),
                **about,
                "tokens": tokens_in_words(self.tokens, fork),
                "state": self.entry["state"],
                "digest": self.digest,
            },
        )


class Block:
    """Neighbouring tokens of one source, of which rows are made. Make one with run.block."""

    def __init__(self, run: Run, number: int) -> None:
        self.run, self.number = run, number
        self.source = run.shown.shards.source_of(number)

    @property
    def tokens(self) -> np.ndarray:
        """Its token ids, shape (block + 1,), uint32."""
        return self.run.shown.shards.ids(self.number)

    @property
    def text(self) -> str:
        """Its tokens as text, document tokens included."""
        return self.run.shown.tokenizer.decode(self.tokens.tolist())

    @cached_property
    def _about(self) -> dict[str, Any]:
        return self.run.shown.block(self.number)

    def segments(self) -> list[dict[str, Any]]:
        """What each document fills of it: `document`, `index`, `licence`, `origin`, `date`,
        `start`, `stop` and `text`."""
        return self._about["segments"]

    def steps(self) -> list[dict[str, int]]:
        """Every `step`, `row`, `epoch`, `start` and `context` that trained on it."""
        return self._about["steps"]

    def __repr__(self) -> str:
        return f"{self.run!r}.block({self.number})"

    def _repr_html_(self) -> str:
        seen = ", ".join(str(time["step"]) for time in self.steps())
        return table(f"block {self.number}", {"source": self.source, "steps": seen}, self.text)


class Document:
    """A document of the corpus. Make one with run.document.

    index, id, source, licence, origin, date, split, characters, bytes, sha256 and text are as in
    the view `documents`."""

    def __init__(self, run: Run, row: Mapping[str, Any]) -> None:
        self.run = run
        self.index: int = row["index"]
        self.id: str = row["id"]
        self.source: str = row["source"]
        self.licence: str = row["licence"]
        self.origin: str = row["origin"]
        self.date: str = row["date"]
        self.split: str = row["split"]
        self.characters: int = row["characters"]
        self.bytes: int = row["bytes"]
        self.sha256: str = row["sha256"]
        self.text: str = row["text"]

    @cached_property
    def _about(self) -> dict[str, Any]:
        return self.run.shown.document(self.id)

    @property
    def tokens(self) -> int:
        """How many tokens it has, its document token included."""
        return self._about["tokens"]

    def blocks(self) -> list[Block]:
        """The blocks with something of it to train on, in order; none for the validation split."""
        return [self.run.block(block["block"]) for block in self._about["blocks"]]

    def steps(self) -> list[dict[str, int]]:
        """Every `step`, `row`, `epoch`, `start`, `context` and `block` that trained
        on something of it, in order."""
        seen = [
            {**step, "block": entry["block"]}
            for entry in self._about["blocks"]
            for step in entry["steps"]
        ]
        return sorted(seen, key=lambda entry: (entry["step"], entry["row"]))

    def __repr__(self) -> str:
        return f"{self.run!r}.document({plain(repr(self.id))})"

    def _repr_html_(self) -> str:
        names = ("source", "licence", "origin", "date", "split", "sha256")
        about = {name: getattr(self, name) for name in names} | {
            "characters": f"{self.characters:,}"
        }
        return table(self.id, about, self.text)


class Evaluation:
    """A task asked of the weights after a step. Make them with run.evaluations.

    n, step, task, harness, version, metric and settings are as in the view `evaluations`; numbers
    are the means by name; variant tells shots, a limit and the harness in words."""

    def __init__(self, run: Run, entry: Mapping[str, Any]) -> None:
        self.run, self.entry = run, entry
        self.n: int = entry["n"]
        self.step: int = entry["step"]
        self.task: str = entry["task"]
        self.harness: str = entry["harness"]
        self.version: str = entry["version"]
        self.metric: str = entry["metric"]
        self.settings: dict[str, str | int | bool | None] = entry["settings"]
        self.variant: str = variants.words(entry)
        self.numbers = {name: digests.bits_float(bits) for name, bits in entry["numbers"].items()}

    @cached_property
    def summary(self) -> Summary:
        """The number that stands for it: `.number`, `.value`, `.interval` (or None), `.chance` (or
        None), `.examples`. Reads all examples. Raises EvaluationBroken."""
        return summary(self.entry, stored.lines(self.run.folder, self.entry))

    def examples(self) -> Iterator[Line]:
        """Every example in order, one in memory at a time: `.example` (name, request, target,
        cluster), `.answer`, `.numbers`. Raises EvaluationBroken."""
        return stored.lines(self.run.folder, self.entry)

    def __repr__(self) -> str:
        task = variants.shown(self.task, self.variant)
        asked = f"step {self.step}, task {plain(repr(task))}"
        return f"<evaluation {self.n} of {self.run!r}: {asked}>"

    def _repr_html_(self) -> str:
        value, interval, chance, examples = self.summary.cells()
        about = {
            "step": self.step,
            self.summary.number: value,
            "95% interval": interval,
            "chance": chance,
            "examples": examples,
            "metric": self.metric,
            "asked by": f"{self.harness} {self.version}",
            "settings": ", ".join(f"{name} {setting}" for name, setting in self.settings.items()),
        }
        return table(self.task, about)
