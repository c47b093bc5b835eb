"""The forgeries: how each is made, what catches it, and what is named.

They are made of the small run of tests/conftest.py: 13 steps, anchors after 0, 1, 2, 4, 5, 8, 10
and 13, checkpoints of steps 0, 6, 12 and 13, validation at 0, 5, 10 and 13."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pellucid.site.pack import packed
from tests.forgery import beside, edits, site, steps
from tests.forgery.caught import Forgery
from tests.forgery.forge import seal_as_it_is
from tests.release import evaluating

LEDGER = "record/ledger.jsonl: "


def _of_task(name: str, make: Callable[[Path], None]) -> Forgery:
    """The numbers are those of the answers, and the examples not those of the task."""
    where = "evaluations/chain.jsonl: entry 1"
    return Forgery(
        name, edits.edited(make), "verify", "TaskDiffers", where, seal=evaluating.seal_as_it_is
    )


def _of_site(name: str, make: Callable[[Path, Path], None], error: str, where: str) -> Forgery:
    """The record is right, and its pages are not."""
    return Forgery(name, make, "verify", error, f"site/{where}", seal=seal_as_it_is)


FORGERIES = [
    # Only a replay tells these: every number and every root fits every other.
    Forgery(
        "weights replaced", steps.trained(steps.replaced), "audit", "weights", "step 7", elsewhere=9
    ),
    Forgery(
        "one bit of the weights",
        steps.trained(steps.one_bit),
        "audit",
        "weights",
        "step 7",
        elsewhere=9,
    ),
    Forgery(
        "a step skipped", steps.trained(steps.skipped), "audit", "weights", "step 7", elsewhere=9
    ),
    Forgery(
        "a state between two true ones",
        steps.trained(steps.interpolated),
        "audit",
        "weights",
        "step 7",
        elsewhere=9,
    ),
    Forgery(
        "moments zeroed, weights right",
        steps.trained(steps.moments_zeroed),
        "audit",
        "state",
        "step 7",
        elsewhere=9,
    ),
    Forgery(
        "labels shifted",
        steps.trained(steps.labels_shifted),
        "audit",
        "microbatches",
        "step 7",
        elsewhere=9,
    ),
    Forgery(
        "other tokens than the batch's",
        steps.trained(steps.other_tokens),
        "audit",
        "microbatches",
        "step 7",
        elsewhere=9,
    ),
    Forgery(
        "half of the batch twice",
        steps.trained(steps.rows_repeated),
        "audit",
        "microbatches",
        "step 7",
        elsewhere=9,
    ),
    Forgery(
        "two steps' data swapped", steps.swapped, "audit", "microbatches", "step 6", 6, elsewhere=9
    ),
    Forgery(
        "clipped at another norm",
        steps.trained(steps.other_recipe(clip=1e-3)),
        "audit",
        "weight_norm",
        "step 7",
        7,
        9,
    ),
    Forgery(
        "another beta2 for one step",
        steps.trained(steps.other_optimizer(beta2=0.8)),
        "audit",
        "weight_norm",
        "step 7",
        7,
        9,
    ),
    Forgery(
        "a step by another arithmetic",
        steps.trained(steps.by_torch),
        "audit",
        "microbatches",
        "step 7",
        elsewhere=9,
    ),
    Forgery(
        "validation data trained on",
        steps.validated_on,
        "audit",
        "microbatches",
        "step 7",
        elsewhere=9,
    ),
    Forgery(
        "states invented on a line", steps.invented, "audit", "weights", "step 1", 1, elsewhere=0
    ),
    Forgery(
        "twice the learning rate, unsaid",
        steps.trained(steps.faster),
        "audit",
        "weight_norm",
        "step 7",
        elsewhere=9,
    ),
    Forgery(
        "a better loss, all sums fitted",
        steps.trained(steps.flattering),
        "audit",
        "segments",
        "step 7",
        elsewhere=9,
    ),
    Forgery(
        "another run's steps from 8 on",
        steps.spliced,
        "audit",
        "microbatches",
        "step 8",
        8,
        elsewhere=5,
    ),
    Forgery(
        "validation better than computed",
        steps.validated_better,
        "audit",
        "validation",
        "step 10",
        10,
        elsewhere=7,
    ),
    Forgery(
        "trained before the first step",
        steps.trained_before,
        "audit",
        "initial state",
        "step 0",
        0,
        elsewhere=7,
    ),
    Forgery(
        "a weight norm edited",
        edits.edited(lambda f: edits.lower(f, "weight_norm")),
        "audit",
        "weight_norm",
        "step 7",
        7,
        9,
    ),
    Forgery(
        "the last step fine-tuned",
        edits.edited(edits.fine_tuned_throughout),
        "audit",
        "weights",
        "step 13",
        13,
        elsewhere=9,
    ),
    Forgery(
        "another beta2 in the recipe",
        edits.edited(edits.recipe("beta2 = 0.95", "beta2 = 0.96")),
        "audit",
        "weight_norm",
        "step 6",
    ),
    Forgery(
        "an old anchor, recorded",
        edits.edited(edits.old_anchor_recorded),
        "audit",
        "weights",
        "step 8",
        8,
        elsewhere=7,
    ),
    Forgery(
        "another text beside the tokens",
        beside.other_text,
        "audit",
        "tokenizer's of its text",
        "step 7",
    ),
    Forgery(
        "another tokenizer beside them",
        beside.other_tokenizer,
        "audit",
        "tokenizer's of its text",
        "step 7",
    ),
    Forgery(
        "a tokenizer of no kind",
        beside.tokenizer_of_no_kind,
        "verify",
        "DataDiffers",
        'kind = "bpe" gives',
    ),
    Forgery(
        "extractions that the model does not do",
        edits.edited(beside.extracted),
        "evaluations",
        "memorization",
        "step 12",
    ),
    # What is recorded contradicts itself.
    Forgery(
        "an extraction's numbers edited",
        edits.edited(lambda f: beside.extracted(f, beside.better_share)),
        "verify",
        "EvaluationBroken",
        "evaluations/00001.jsonl: line 1",
        seal=seal_as_it_is,  # Which publish would not make a site of.
    ),
    _of_task("an easy question as a built-in task", beside.own_examples),
    _of_task("an easy text as the run's validation", beside.own_texts),
    _of_task("other sequences than the order draws", beside.own_sequences),
    _of_task("a built-in task with a question twice", beside.asked_often),
    _of_task("a built-in name, by another harness", beside.harness_of_its_own),
    Forgery(
        "a loss edited",
        edits.edited(lambda f: edits.lower(f, "loss")),
        "verify",
        "LossDiffers",
        LEDGER + "step 7",
    ),
    Forgery(
        "a segment's loss edited",
        edits.edited(edits.segment_loss),
        "verify",
        "NumbersDiffer",
        "segments.parquet: step 7",
    ),
    Forgery(
        "segments' losses and their root",
        edits.edited(edits.segment_root),
        "verify",
        "LossDiffers",
        LEDGER + "step 7",
    ),
    Forgery(
        "a learning rate edited",
        edits.edited(lambda f: edits.lower(f, "lr")),
        "verify",
        "LedgerBroken",
        "step 7: lr",
    ),
    Forgery(
        "another batch recorded",
        edits.edited(edits.batch_root),
        "verify",
        "BatchDiffers",
        LEDGER + "step 7",
    ),
    Forgery(
        "an entry edited, chain left",
        edits.edited(edits.broken_chain),
        "verify",
        "LedgerBroken",
        "step 8",
    ),
    Forgery(
        "a step left out", edits.edited(edits.left_out), "verify", "LedgerIncomplete", "step 7"
    ),
    Forgery(
        "the tail cut off", edits.edited(edits.truncated), "verify", "LedgerIncomplete", "step 13"
    ),
    Forgery(
        "the tail and its recipe",
        edits.edited(edits.truncated_with_recipe),
        "verify",
        "LedgerBroken",
        "step 3: lr",
    ),
    Forgery(
        "an old anchor under a new name",
        edits.edited(edits.old_anchor),
        "verify",
        "StateDiffers",
        "anchors/step8",
    ),
    Forgery(
        "an anchor's moments zeroed",
        edits.edited(edits.wrong_moments),
        "verify",
        "StateDiffers",
        "anchors/step8",
    ),
    Forgery(
        "step 12 published as step 6",
        edits.edited(edits.late_as_early),
        "verify",
        "StateDiffers",
        "checkpoints/step6",
    ),
    Forgery(
        "the final model fine-tuned",
        edits.edited(edits.fine_tuned),
        "verify",
        "StateDiffers",
        "model.safetensors",
    ),
    Forgery(
        "another text",
        edits.edited(edits.document("text", str.upper)),
        "verify",
        "DataDiffers",
        "data/documents/00000",
    ),
    Forgery(
        "another licence",
        edits.edited(edits.document("licence", lambda _: "MIT")),
        "verify",
        "DataDiffers",
        "data/documents/00000",
    ),
    Forgery(
        "another token",
        edits.edited(edits.other_token),
        "verify",
        "DataDiffers",
        "data/shards/manifest.json: streams.0.root",
    ),
    Forgery(
        "another tokenizer",
        edits.edited(edits.tokenizer),
        "verify",
        "DataDiffers",
        "data/manifest.json: root",
    ),
    Forgery(
        "another lr in the recipe",
        edits.edited(edits.recipe("\nlr = 0.004", "\nlr = 0.005")),
        "verify",
        "LedgerBroken",
        "step 1: lr",
    ),
    Forgery(
        "an incident hidden",
        beside.hidden_incident,
        "verify",
        "LedgerIncomplete",
        "incident of step 11",
    ),
    Forgery("a rollback invented", steps.invented_rollback, "verify", "LedgerIncomplete", "step 9"),
    Forgery(
        "a fork's first state replaced",
        beside.other_parent(False),
        "verify",
        "StateDiffers",
        "parent",
    ),
    _of_site(
        "a script of the site edited",
        site.file("core.js", site.replaced(b"toFixed", b"toPrecision")),
        "FileDiffers",
        "core.js",
    ),
    _of_site(
        "a curve of the site edited",
        site.value("curves/level0/00000", site.better_loss),
        "FileDiffers",
        "data/curves/level0/00000.js",
    ),
    _of_site(
        "a text of the site edited",
        site.pieces("texts/00000", bytes.upper),
        "FileDiffers",
        "data/texts/00000.js",
    ),
    _of_site(
        "a script inside the data",
        site.file("data/steps/00000.js", site.replaced(b'",["', b'",[alert(1),"')),
        "FileDiffers",
        "data/steps/00000.js: is not the data file",
    ),
    _of_site(
        "more tokens in the overview",
        site.value("overview", site.more_tokens),
        "FileDiffers",
        "data/overview.js",
    ),
    _of_site(
        "texts that gzip hardly packs",
        site.value("baselines", site.worse_gzip),
        "FileDiffers",
        "data/baselines.js",
    ),
    _of_site(
        "steps that were never taken",
        site.file("data/steps/00001.js", lambda _: packed("steps/00001", [b"{}"])),
        "FileAdded",
        "data/steps/00001.js",
    ),
    _of_site(
        "a script added to the site",
        site.file("more.js", lambda _: b"alert(1);\n"),
        "FileAdded",
        "more.js",
    ),
    _of_site(
        "a page of the maker edited",
        site.file("pages/about.html", site.replaced(b"public texts", b"anything")),
        "FileDiffers",
        "pages/about.html",
    ),
    # Nothing in the release tells: the parent's ledger does.
    Forgery(
        "a fork of what its parent never was",
        beside.other_parent(True),
        "diff",
        "state",
        "step 8",
        9,
    ),
]
