"""Hostile releases: files of a small run, changed in ways that know their
structure, given to every reader."""
