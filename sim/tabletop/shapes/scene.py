"""The table as a MuJoCo model: two blocks, two cylinders, two balls, two zones, and a belt at the far side."""

from __future__ import annotations

import mujoco
from mujoco import mjtGeom, mjtJoint

from saccade.sim.tabletop.arm import add_arm
from saccade.sim.tabletop.scene import (
    BALL,
    BELT_TOP_M,
    BLOCK,
    CYLINDER,
    add_distractors,
    add_things,
    add_zones,
    begin_scene,
)
from saccade.sim.tabletop.shapes.surfaces import add_surfaces

SHAPES = (BLOCK, BLOCK, CYLINDER, CYLINDER, BALL, BALL)
NUM_ZONES = 2
ZONE_HALF_M = 0.05

BELT_X_M = -0.15
BELT_HALF_WIDTH_M = 0.04
_BELT_HALF_LENGTH_M = 1.4
"""Longer than an episode, so that its ends never come into view."""
_BELT_MASS_KG = 1e4
"""Nothing that happens on the table slows it."""
_BELT, _THING = 2, 1


def build_model() -> mujoco.MjModel:
    """Compile the table."""
    spec = begin_scene()
    add_surfaces(spec)
    _add_belt(spec)
    add_zones(spec, NUM_ZONES, ZONE_HALF_M)
    add_things(spec, SHAPES)
    for index in range(len(SHAPES)):
        spec.geom(f"thing_{index}").conaffinity = _THING | _BELT
    add_distractors(spec)
    add_arm(spec)
    return spec.compile()


def _add_belt(spec: mujoco.MjSpec) -> None:
    """A long strip that slides along y and carries what lies on it by friction; the fingers pass through it."""
    belt = spec.worldbody.add_body(name="belt", pos=[BELT_X_M, 0, BELT_TOP_M / 2])
    belt.add_joint(name="belt", type=mjtJoint.mjJNT_SLIDE, axis=[0, 1, 0])
    belt.add_geom(
        name="belt",
        type=mjtGeom.mjGEOM_BOX,
        size=[BELT_HALF_WIDTH_M, _BELT_HALF_LENGTH_M, BELT_TOP_M / 2],
        mass=_BELT_MASS_KG,
        friction=[1, 0.005, 0.0001],
        contype=_BELT,
        conaffinity=0,
    )
