"""A run opened for a report: what several sections ask of it, read once."""

from __future__ import annotations

import hashlib
import re
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pellucid import counts
from pellucid.data import stage, tokenizer
from pellucid.evaluate import builtin
from pellucid.look.status import status
from pellucid.measured import stored, variants
from pellucid.measured.summary import Summary, summary
from pellucid.measured.variants import Entry, Question
from pellucid.recipe import load
from pellucid.record.digests import canonical
from pellucid.site.curves import Curves
from pellucid.store import layout
from pellucid.store.home import home
from pellucid.store.ledger import LedgerFile, begun

# What needs no quotes on a command line, and ends no code in Markdown.
safe = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/@%+=~-]{0,200}").fullmatch


class Reported:
    """A run, a release or its URL. Raises RunMissing, and what reading raises."""

    def __init__(self, run: str) -> None:
        self.folder: Path = home(run)
        self.recipe = load(self.folder)
        self.about: dict[str, Any] = status(self.folder)
        self.label = self.recipe.name  # In a report of several runs another one for each.
        self.typed = _typed(run)

    @cached_property
    def ledger(self) -> LedgerFile | None:
        """None before training."""
        return begun(self.folder)

    @cached_property
    def identity(self) -> str:
        """The same for runs that compute the same: of the genesis, or before training of the
        recipe."""
        genesis = self.ledger and canonical(self.ledger.genesis)
        return hashlib.sha256(genesis).hexdigest() if genesis else self.recipe.digest().hex()

    @property
    def first(self) -> int:
        return self.recipe.first

    @property
    def done(self) -> int:
        """The last step taken."""
        return max(self.first, self.about["steps_done"])

    @cached_property
    def curves(self) -> Curves:
        names = [source.name for source in self.recipe.data.sources]
        return Curves(self.folder, self.first, self.done, names)

    def series(self, name: str) -> np.ndarray:
        """By step from the first on, shape (steps,); NaN where nothing is written."""
        return self.curves.series[name]

    @cached_property
    def vocabulary(self) -> int | None:
        """None before the tokenizer is made."""
        there = self.about["stages"]["tokenizer"]
        return tokenizer.recorded(self.folder).vocabulary if there else None

    @cached_property
    def parameters(self) -> int | None:
        vocabulary = self.vocabulary
        return vocabulary and counts.parameters(self.recipe.model, vocabulary).total

    def flops(self) -> int | None:
        """Operations of the steps that the run took: those of the model and of the optimizer."""
        if self.vocabulary is None:
            return None
        schedule, total, before = self.recipe.schedule, 0, 0
        for phase in schedule.phases:
            end = before + phase.steps
            taken = max(0, min(end, self.done) - max(before, self.first))
            total += taken * counts.step_flops(self.recipe, phase, self.vocabulary).step
            before = end
        return total

    @cached_property
    def evaluations(self) -> list[dict[str, Any]]:
        """Of weights that the run has, the oldest first. Raises EvaluationBroken, TaskDiffers."""
        return builtin.of_run(self.folder)

    @cached_property
    def newest(self) -> dict[Question, dict[int, Entry]]:
        """By question and step, the newest entry; questions by the names of their tasks."""
        return variants.newest(self.evaluations)

    @cached_property
    def variants(self) -> dict[Question, str]:
        """Of each question what tells it from others of its task."""
        return variants.named(self.evaluations)

    @cached_property
    def tasks(self) -> dict[Question, list[Summary]]:
        """By question its rows, steps ascending. Raises EvaluationBroken."""
        return {
            asked: [
                summary(one, stored.lines(self.folder, one))._replace(variant=self.variants[asked])
                for _, one in sorted(own.items())
            ]
            for asked, own in self.newest.items()
        }

    @cached_property
    def documents_root(self) -> str | None:
        """The root of its texts; None before the shards are made."""
        path = self.folder / layout.DATA_MANIFEST
        if not self.about["stages"]["shards"]:
            return None
        return stage.digest_in(stage.read_manifest(path, "data"), "documents_root", path)

    def command(self, verb: str, *words: str) -> str:
        """A command of this run, as it is typed."""
        return " ".join(("pellucid", verb, self.typed, *words))


def _typed(run: str) -> str:
    """A run as commands name it: its address, or the last name of its folder. The folders above say
    who works on a machine, and stay out of what is passed on."""
    typed = run if "://" in run else Path(run).resolve().name
    return typed if safe(typed) else "RUN"
