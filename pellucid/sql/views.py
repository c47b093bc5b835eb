"""The views that a question may be about, and their columns: what docs/sql.md says, as data."""

from __future__ import annotations

from typing import NamedTuple


class Column(NamedTuple):
    """A column of a view."""

    name: str
    type: str  # As DuckDB names it.
    meaning: str
    value: str = ""  # SQL over the columns of the file; where empty, the column of that name.


class View(NamedTuple):
    """What a row of a view is, and its columns."""

    meaning: str
    columns: tuple[Column, ...]


def _columns(kind: str, **meanings: str) -> tuple[Column, ...]:
    return tuple(Column(name, kind, meaning) for name, meaning in meanings.items())


_STEP = Column("step", "BIGINT", "the step, from 1")
_ROW = Column("row", "BIGINT", "the row of its batch, from 0")
_SOURCE = Column("source", "VARCHAR", "the source's name")
_TOKENS = Column("tokens", "BIGINT", "targets, in tokens")
_LOSS_SUM = Column(
    "loss_sum", "DOUBLE", "the sum of the targets' losses before the step's update, in nats"
)
_LOSS = Column("loss", "DOUBLE", "their mean, in nats per token", "loss_sum / nullif(tokens, 0)")
_LOSSES = (_TOKENS, _LOSS_SUM, _LOSS)
_EVALUATED = (
    Column("n", "BIGINT", "the entry of evaluations/chain.jsonl, from 1"),
    Column("step", "BIGINT", "the step whose weights were asked"),
    Column("task", "VARCHAR", "the task"),
)

VIEWS = {
    "steps": View(
        "a step of the run",
        (
            _STEP,
            Column("phase", "VARCHAR", "the phase of the step"),
            Column("tokens", "BIGINT", "targets so far, in tokens"),
            *_columns(
                "DOUBLE",
                loss="mean over its targets before its update, each by its weight, in nats per "
                "token",
                objective="the value that the update minimises: the recipe's [objective]",
                lr="the learning rate",
                grad_norm="norm of the gradient before clipping",
                weight_norm="norm of the weights after the update",
                seconds="wall time of the step, which is not part of the computation",
                tokens_per_second="targets per second",
            ),
            Column("memory_bytes", "BIGINT", "peak memory of the process so far"),
        ),
    ),
    "sequences": View(
        "a row of a step's batch",
        (
            _STEP,
            _ROW,
            Column("epoch", "BIGINT", "the pass over its source, from 0"),
            _SOURCE,
            Column("block", "BIGINT", "the block that holds it"),
            Column("start", "BIGINT", "its first target in the block, from 0"),
            *_LOSSES,
        ),
    ),
    "segments": View(
        "neighbouring targets of a row with the same document and weight",
        (
            _STEP,
            _ROW,
            Column("document", "BIGINT", "the document, as in documents"),
            Column("start", "BIGINT", "its first target in the row, from 0"),
            _TOKENS,
            Column("weight", "BIGINT", "how much each of its targets counts; 0: not trained on"),
            _LOSS_SUM,
            _LOSS,
        ),
    ),
    "sources": View(
        "a source in a step's batch",
        (
            _STEP,
            _SOURCE,
            Column(
                "weight",
                "BIGINT",
                "how often it is seen in its phase while a source of weight 1 is seen once; "
                "NULL where the phase has shares",
            ),
            *_LOSSES,
        ),
    ),
    "microbatches": View(
        "a microbatch of a step",
        (
            _STEP,
            Column("microbatch", "BIGINT", "its place in the step, from 0", '"index"'),
            _TOKENS,
            Column("weight", "BIGINT", "the sum of its targets' weights"),
            _LOSS_SUM,
            _LOSS,
            Column("objective", "DOUBLE", "its part of the objective, before the division"),
            Column(
                "gradient_root",
                "VARCHAR",
                "the digest of its gradient; empty if the recipe does not commit to it",
            ),
        ),
    ),
    "validation": View(
        "a source at a step with validation",
        (
            Column("step", "BIGINT", "the step; the first is the initial state of the run"),
            _SOURCE,
            _TOKENS,
            Column("bytes", "BIGINT", "UTF-8 bytes of the documents covered"),
            Column("loss_sum", "DOUBLE", "the sum of the targets' losses, in nats"),
            Column("loss", "DOUBLE", "their mean, in nats per token"),
            Column("bits_per_byte", "DOUBLE", "loss_sum / ln 2 / bytes"),
        ),
    ),
    "documents": View(
        "a document of the corpus, trained on or not",
        (
            Column("document", "BIGINT", "its index, from 0", '"index"'),
            *_columns(
                "VARCHAR", id="source/name", source="the source's name", licence="its licence"
            ),
            *_columns(
                "VARCHAR",
                origin="its origin: a file, a package URL, or the value in its record",
                date="the date in its record; empty if none",
                split="train or validation",
            ),
            *_columns(
                "BIGINT", characters="code points of its text", bytes="UTF-8 bytes of its text"
            ),
            *_columns(
                "VARCHAR", sha256="SHA-256 of its text in UTF-8, in hex", text="the text itself"
            ),
        ),
    ),
    "incidents": View(
        "an incident decided by the recipe's guards, in abandoned branches too",
        (
            Column("step", "BIGINT", "the last step recorded by then"),
            *_columns(
                "VARCHAR", rule="loss, grad_norm or not_finite", action="note, stop or rollback"
            ),
            *_columns(
                "DOUBLE",
                value="the measured value; may be inf or nan",
                threshold="the threshold that it exceeded (`limit`)",
            ),
            Column("width", "BIGINT", "how many steps in a row had to exceed it"),
            Column("quantity", "VARCHAR", "not_finite: the quantity that was not finite"),
            Column("back_to", "BIGINT", "rollback: the step it goes back to (`to`)"),
            Column("passed_over", "BIGINT", "rollback: steps whose rows were skipped so far"),
            Column("branch", "BIGINT", "its branch; for a rollback, the new branch"),
            Column("abandoned", "BOOLEAN", "whether a later rollback went back to before it"),
            Column("why", "VARCHAR", "the reason, in words"),
        ),
    ),
    "checkpoints": View(
        "a published checkpoint",
        (
            Column("step", "BIGINT", "the step whose weights it holds"),
            Column("tokens", "BIGINT", "targets trained on by then"),
            *_columns("VARCHAR", root="the root in the ledger: weights, tokenizer, architecture"),
            *_columns(
                "VARCHAR", weights="the digest of the weights", state="the digest of the full state"
            ),
            Column("path", "VARCHAR", "its folder in the run; NULL if missing"),
        ),
    ),
    "evaluations": View(
        "a number of an evaluation of the run's weights",
        (
            *_EVALUATED,
            *_columns(
                "VARCHAR",
                harness="the program that asked the model",
                version="its version",
                settings="the other settings, as JSON",
                metric="how answers are rated, as in evaluate.md",
                task_digest="the digest of all questions",
                number="the name of the number, such as acc",
            ),
            *_columns(
                "DOUBLE",
                value="its mean over the examples, or the ratio bits_per_byte",
                low="the lower end of its 95% interval; NULL if all examples are one cluster, for "
                "chance, and for the parts of a ratio",
                high="the upper end",
            ),
            Column("method", "VARCHAR", "how the interval is computed, as in evaluate.md"),
            Column("examples", "BIGINT", "how many examples were asked"),
        ),
    ),
    "examples": View(
        "a number of an example of an evaluation",
        (
            *_EVALUATED,
            *_columns(
                "VARCHAR",
                example="the example's id in the task",
                cluster="examples of one cluster share a document or a template; may be empty",
                request="the request to the model, as JSON",
                answer="the model's answer, as JSON",
                target="the right answer, as JSON",
                number="the name of the number, such as acc",
            ),
            Column("value", "DOUBLE", "its value for this example"),
        ),
    ),
}
