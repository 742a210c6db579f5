"""Reads checkpoints of π0.5: see :mod:`saccade.export.families.pi.checkpoint`."""

from __future__ import annotations

from pathlib import Path

from saccade.export.families.checkpoint import Checkpoint
from saccade.export.families.flow_family import FlowFamily
from saccade.export.families.pi import pi05
from saccade.export.families.pi.checkpoint import PiPrompt, load_pi

PROMPT = PiPrompt(
    "Task: {instruction}, State: {state};\nAction: ",
    pi05.PROMPT_TOKENS,
    state_bins=256,
    is_always_cleaned=True,
)


def load(path: Path) -> Checkpoint[FlowFamily]:
    """Read a checkpoint; as :func:`load_pi`."""
    return load_pi(path, pi05, PROMPT)
