"""Evaluations read and summed up: entries and lines, means and their intervals. No torch."""
