"""Families that act: how each is read from a checkpoint and run as one control step."""
