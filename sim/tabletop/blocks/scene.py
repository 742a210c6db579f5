"""The first table as a MuJoCo model."""

from __future__ import annotations

import mujoco

from saccade.sim.tabletop.arm import add_arm
from saccade.sim.tabletop.scene import BLOCK, add_distractors, add_things, add_zones, begin_scene

SHAPES = (BLOCK,) * 3
NUM_ZONES = 2
ZONE_HALF_M = 0.06


def build_model() -> mujoco.MjModel:
    """Compile the table."""
    spec = begin_scene()
    add_zones(spec, NUM_ZONES, ZONE_HALF_M)
    add_things(spec, SHAPES)
    add_distractors(spec)
    add_arm(spec)
    return spec.compile()
