"""Checkpoint to bundle: the build machine's side."""
