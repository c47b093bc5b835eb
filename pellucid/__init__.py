"""Pellucid trains language models in the open: every step can be replayed, traced and checked."""

__version__ = "0.1.0"
