"""Checkpoints measured: requests scored by the model of any step, and the built-in tasks."""
