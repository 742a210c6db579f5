"""The tabletop as a MuJoCo model: a Cartesian arm, three blocks, two zones, two distractors, two cameras.

Built with ``MjSpec``: no asset files. World axes: x towards the scene camera, y to its right, z up, metres. The
table's surface is z = 0. The tool centre point (TCP) lies between the finger tips.
"""

from __future__ import annotations

import mujoco
from mujoco import mjtGeom, mjtJoint

from saccade.sim.tabletop import palette

NUM_BLOCKS = 3
NUM_ZONES = 2
NUM_DISTRACTORS = 2

BLOCK_HALF_M = 0.025
ZONE_HALF_M = 0.06
REACH_M = (0.19, 0.21)
"""Half extent of the arm's workspace along x and y."""
TCP_MIN_Z_M = 0.012
TCP_MAX_Z_M = 0.26
FINGER_CLOSED_M = 0.006
FINGER_OPEN_M = 0.045
PARKED = (0.0, 0.0, -1.0)
"""Place where absent distractors are kept, out of every view."""

SCENE_CAMERA = "scene"
WRIST_CAMERA = "wrist"
TIMESTEP_S = 0.005


def build_model() -> mujoco.MjModel:
    """Compile the tabletop. Shadows and multisampling are off: ten times faster to render on a CPU."""
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
    _add_room(spec)
    _add_objects(spec)
    _add_arm(spec)
    return spec.compile()


def _add_room(spec: mujoco.MjSpec) -> None:
    world = spec.worldbody
    world.add_light(
        name="key", pos=[0.5, -0.6, 1.4], dir=[-0.35, 0.4, -1.0], diffuse=[0.42] * 3, specular=[0.1] * 3
    )
    world.add_geom(
        name="floor", type=mjtGeom.mjGEOM_PLANE, size=[3, 3, 0.1], pos=[0, 0, -0.5], rgba=[*palette.FLOOR, 1]
    )
    world.add_geom(
        name="table",
        type=mjtGeom.mjGEOM_BOX,
        size=[0.28, 0.30, 0.02],
        pos=[0, 0, -0.02],
        rgba=[*palette.TABLE, 1],
        friction=[1, 0.005, 0.0001],
    )
    world.add_camera(name=SCENE_CAMERA, pos=[0.52, 0, 0.56], xyaxes=[0, 1, 0, -0.56, 0, 0.50], fovy=37)


def _add_objects(spec: mujoco.MjSpec) -> None:
    world = spec.worldbody
    for index in range(NUM_ZONES):
        zone = world.add_body(name=f"zone_{index}", mocap=True)
        zone.add_geom(
            name=f"zone_{index}",
            type=mjtGeom.mjGEOM_BOX,
            size=[ZONE_HALF_M, ZONE_HALF_M, 0.001],
            contype=0,
            conaffinity=0,
        )
    for index in range(NUM_BLOCKS):
        block = world.add_body(name=f"block_{index}", pos=[0, 0, BLOCK_HALF_M])
        block.add_freejoint(name=f"block_{index}")
        block.add_geom(
            name=f"block_{index}",
            type=mjtGeom.mjGEOM_BOX,
            size=[BLOCK_HALF_M] * 3,
            mass=0.06,
            friction=[1.2, 0.01, 0.001],
            condim=4,
        )
    shapes = ((mjtGeom.mjGEOM_SPHERE, [0.02, 0, 0]), (mjtGeom.mjGEOM_CYLINDER, [0.018, 0.022, 0]))
    for index, (shape, size) in enumerate(shapes):
        item = world.add_body(name=f"distractor_{index}", mocap=True, pos=list(PARKED))
        item.add_geom(name=f"distractor_{index}", type=shape, size=size)


def _add_arm(spec: mujoco.MjSpec) -> None:
    carriage = spec.worldbody
    axes = (
        ("x", [1, 0, 0], [-REACH_M[0], REACH_M[0]]),
        ("y", [0, 1, 0], [-REACH_M[1], REACH_M[1]]),
        ("z", [0, 0, 1], [TCP_MIN_Z_M, TCP_MAX_Z_M]),
    )
    for name, axis, limits in axes:
        carriage = carriage.add_body(name=f"carriage_{name}")
        carriage.add_joint(
            name=name, type=mjtJoint.mjJNT_SLIDE, axis=axis, range=limits, limited=True, damping=40
        )
        carriage.add_geom(
            type=mjtGeom.mjGEOM_SPHERE,
            size=[0.005, 0, 0],
            mass=0.3,
            contype=0,
            conaffinity=0,
            rgba=[0, 0, 0, 0],
        )
    carriage.gravcomp = 1
    hollow = {"contype": 0, "conaffinity": 0}
    box, tube = mjtGeom.mjGEOM_BOX, mjtGeom.mjGEOM_CYLINDER
    carriage.add_geom(
        name="palm",
        type=box,
        size=[0.02, 0.058, 0.011],
        pos=[0, 0, 0.082],
        rgba=[0.16, 0.17, 0.20, 1],
        mass=0.2,
        **hollow,
    )
    carriage.add_geom(
        name="flange",
        type=tube,
        size=[0.026, 0.008, 0],
        pos=[0, 0, 0.101],
        rgba=[0.90, 0.45, 0.10, 1],
        mass=0.05,
        **hollow,
    )
    carriage.add_geom(
        name="column",
        type=tube,
        size=[0.017, 0.17, 0],
        pos=[0, 0, 0.279],
        rgba=[0.80, 0.82, 0.85, 1],
        mass=0.2,
        **hollow,
    )
    carriage.add_camera(name=WRIST_CAMERA, pos=[0.09, 0, 0.115], xyaxes=[0, 1, 0, -0.89, 0, 0.46], fovy=72)
    for name, side in (("finger_left", -1), ("finger_right", 1)):
        finger = carriage.add_body(name=name, pos=[0, 0, 0.03])
        finger.gravcomp = 1
        limits = [FINGER_CLOSED_M, FINGER_OPEN_M]
        finger.add_joint(
            name=name, type=mjtJoint.mjJNT_SLIDE, axis=[0, side, 0], range=limits, limited=True, damping=8
        )
        finger.add_geom(
            name=name,
            type=box,
            size=[0.015, 0.005, 0.041],
            rgba=[0.86, 0.87, 0.90, 1],
            mass=0.05,
            friction=[1.5, 0.02, 0.001],
            condim=4,
        )
    for name, gain, limits, force in (
        ("x", 700, [-REACH_M[0], REACH_M[0]], 80),
        ("y", 700, [-REACH_M[1], REACH_M[1]], 80),
        ("z", 900, [TCP_MIN_Z_M, TCP_MAX_Z_M], 80),
        ("finger_left", 400, [FINGER_CLOSED_M, FINGER_OPEN_M], 8),
        ("finger_right", 400, [FINGER_CLOSED_M, FINGER_OPEN_M], 8),
    ):
        servo = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        servo.gaintype = mujoco.mjtGain.mjGAIN_FIXED
        servo.biastype = mujoco.mjtBias.mjBIAS_AFFINE
        servo.gainprm[0] = gain
        servo.biasprm[1] = -gain
        servo.ctrllimited = True
        servo.ctrlrange = limits
        servo.forcelimited = True
        servo.forcerange = [-force, force]
