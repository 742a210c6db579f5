"""What every table is built from with ``MjSpec``: room, things, zones, distractors, cameras. No asset files.

World axes: x towards the scene camera, y to its right, z up, metres. The table's surface is z = 0.
"""

from __future__ import annotations

import mujoco
from mujoco import mjtGeom

SCENE_CAMERA = "scene"
WRIST_CAMERA = "wrist"
TIMESTEP_S = 0.005

THING_HALF_M = 0.025
"""Half the height of every thing, whatever its shape."""
PARKED = (0.0, 0.0, -1.0)
"""Place where absent distractors are kept, out of every view."""

BELT_TOP_M = 0.002
"""Height of a belt above the table, where there is one."""

BLOCK, CYLINDER, BALL = "block", "cylinder", "ball"

_THING_SHAPES = {
    BLOCK: (mjtGeom.mjGEOM_BOX, [THING_HALF_M] * 3),
    CYLINDER: (mjtGeom.mjGEOM_CYLINDER, [0.022, THING_HALF_M, 0]),
    BALL: (mjtGeom.mjGEOM_SPHERE, [THING_HALF_M, 0, 0]),
}
_DISTRACTOR_SHAPES = (
    (mjtGeom.mjGEOM_SPHERE, [0.02, 0, 0]),
    (mjtGeom.mjGEOM_CYLINDER, [0.018, 0.022, 0]),
)
NUM_DISTRACTORS = len(_DISTRACTOR_SHAPES)

_TABLE_FRICTION = [1, 0.005, 0.0001]
_THING_FRICTION = [1.2, 0.01, 0.001]
_BALL_FRICTION = [0.5, 0.01, 0.005]
"""Smooth enough not to jam between fingers and table; the last number, metres of rolling resistance, lets it come to
rest by itself."""


def begin_scene() -> mujoco.MjSpec:
    """Return floor, table, lamp and scene camera. Shadows and multisampling are off: ten times faster on a CPU."""
    spec = mujoco.MjSpec()
    spec.option.timestep = TIMESTEP_S
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.option.impratio = 10
    spec.visual.quality.shadowsize = 0
    spec.visual.quality.offsamples = 0
    spec.visual.global_.offwidth = 640
    spec.visual.global_.offheight = 640
    spec.visual.map.znear = 0.02
    spec.visual.headlight.ambient = [0.38] * 3
    spec.visual.headlight.diffuse = [0.38] * 3
    spec.visual.headlight.specular = [0.05] * 3
    world = spec.worldbody
    world.add_light(
        name="key", pos=[0.5, -0.6, 1.4], dir=[-0.35, 0.4, -1.0], diffuse=[0.42] * 3, specular=[0.1] * 3
    )
    world.add_geom(name="floor", type=mjtGeom.mjGEOM_PLANE, size=[3, 3, 0.1], pos=[0, 0, -0.5])
    world.add_geom(
        name="table",
        type=mjtGeom.mjGEOM_BOX,
        size=[0.28, 0.30, 0.02],
        pos=[0, 0, -0.02],
        friction=_TABLE_FRICTION,
    )
    world.add_camera(name=SCENE_CAMERA, pos=[0.52, 0, 0.56], xyaxes=[0, 1, 0, -0.56, 0, 0.50], fovy=37)
    return spec


def add_zones(spec: mujoco.MjSpec, count: int, half_m: float) -> None:
    """Add flat square pads that nothing collides with."""
    for index in range(count):
        zone = spec.worldbody.add_body(name=f"zone_{index}", mocap=True)
        zone.add_geom(
            name=f"zone_{index}",
            type=mjtGeom.mjGEOM_BOX,
            size=[half_m, half_m, 0.001],
            contype=0,
            conaffinity=0,
        )


def add_things(spec: mujoco.MjSpec, shapes: tuple[str, ...]) -> None:
    """Add what can be grasped, pushed and stacked: one free body for each shape."""
    for index, shape in enumerate(shapes):
        thing = spec.worldbody.add_body(name=f"thing_{index}", pos=[0, 0, THING_HALF_M])
        thing.add_freejoint(name=f"thing_{index}")
        kind, size = _THING_SHAPES[shape]
        thing.add_geom(
            name=f"thing_{index}",
            type=kind,
            size=size,
            mass=0.06,
            friction=_BALL_FRICTION if shape == BALL else _THING_FRICTION,
            condim=6 if shape == BALL else 4,
            priority=int(shape == BALL),
        )


def add_distractors(spec: mujoco.MjSpec) -> None:
    """Add a ball and a can that are never named, out of sight."""
    for index, (shape, size) in enumerate(_DISTRACTOR_SHAPES):
        item = spec.worldbody.add_body(name=f"distractor_{index}", mocap=True, pos=list(PARKED))
        item.add_geom(name=f"distractor_{index}", type=shape, size=size)
