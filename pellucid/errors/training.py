"""Training that stopped itself: exit code 6."""

from __future__ import annotations

from pellucid.errors.base import TrainingStopped


class NotFinite(TrainingStopped):
    message = """Step {step}: {words} is {value}. The run stopped there, and everything recorded
    before it is intact. Lower train.lr or train.clip, or raise train.warmup, in a new run;
    guards.not_finite = "rollback" would go back and pass the batch over."""


class Guarded(TrainingStopped):
    message = """Step {step}: {what}, and the recipe's rule (guards.{rule}) stops the run there: the
    ledger says so for good. Everything recorded is intact. Begin again after an earlier step with
    other values: pellucid fork {path} --step K --set KEY=VALUE --to DIR"""
