"""Releases sent away, and brought back."""
