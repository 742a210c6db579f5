"""The Cartesian arm that stands at every table: its body, its limits, and the numbers that it takes and gives.

The tool centre point (TCP) lies between the finger tips.
"""

from __future__ import annotations

import mujoco
from mujoco import mjtGeom, mjtJoint

from saccade.sim.tabletop.scene import WRIST_CAMERA

REACH_M = (0.19, 0.21)
"""Half extent of the arm's workspace along x and y."""
TCP_MIN_Z_M = 0.012
TCP_MAX_Z_M = 0.26
FINGER_CLOSED_M = 0.006
FINGER_OPEN_M = 0.045
MAX_STEP_M = 0.02
"""Largest commanded TCP displacement per control step and axis."""

ACTION_NAMES = ("dx", "dy", "dz", "gripper")
PROPRIO_NAMES = ("tcp_x", "tcp_y", "tcp_z", "gripper_opening")
ARM_GEOMS = ("palm", "flange", "column", "finger_left", "finger_right")


def add_arm(spec: mujoco.MjSpec) -> None:
    """Add the Cartesian arm: three slides, two fingers, their servos and the wrist camera."""
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
