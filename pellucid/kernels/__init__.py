"""Portable arithmetic: C kernels that give the same bits on every CPU, and their thin wrappers."""
