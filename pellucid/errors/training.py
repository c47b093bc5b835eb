"""Training that stopped itself: exit code 6."""

from __future__ import annotations

from pellucid.errors.base import TrainingStopped


class NotFinite(TrainingStopped):
    message = """Step {step}: {words} is {value}. The run stopped there. Everything recorded
    before is intact. In a new run, lower train.lr or train.clip, or raise train.warmup. Or
    set guards.not_finite = "rollback" to go back and skip the batch."""


class Guarded(TrainingStopped):
    message = """Step {step}: {what}. The recipe's rule guards.{rule} stops the run there,
    and the ledger records the stop. Everything recorded is intact. Start again after an
    earlier step with other values: pellucid fork {path} --step K --set KEY=VALUE --to DIR"""
