"""``python -m saccade.sim.training`` is ``saccade train``."""

from saccade.sim.training.cli import train

train()
