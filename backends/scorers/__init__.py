"""Opinions of a pool on its backends: which of them should take a call."""
