"""Reads checkpoints of π0: see :mod:`saccade.export.families.pi.checkpoint`."""

from __future__ import annotations

from pathlib import Path

from saccade.export.families.checkpoint import Checkpoint
from saccade.export.families.flow_family import FlowFamily
from saccade.export.families.pi import pi0
from saccade.export.families.pi.checkpoint import PiPrompt, load_pi

PROMPT = PiPrompt("{instruction}\n", pi0.PROMPT_TOKENS, state_bins=0, is_always_cleaned=False)


def load(path: Path) -> Checkpoint[FlowFamily]:
    """Read a checkpoint; as :func:`load_pi`."""
    return load_pi(path, pi0, PROMPT)
