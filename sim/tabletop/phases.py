"""Which part of its task an episode is in, from the world's state; for tables that tell phases apart."""

from __future__ import annotations

from enum import Enum

import numpy as np

from saccade.sim.tabletop.scene import BLOCK_HALF_M
from saccade.sim.tabletop.world import World

NEAR_M = 0.04
"""Horizontal distance from which the gripper is at the block, and the block at its goal."""


class Phase(str, Enum):
    """The parts of a task."""

    REACH = "reach"
    """The gripper is on its way to the block."""
    GRASP = "grasp"
    """The gripper is at the block: descending, touching or closing on it."""
    CARRY = "carry"
    """The block moves: held in the air, or pushed."""
    PLACE = "place"
    """The block is at its goal: lowering, releasing, retreating."""


def phase_of(world: World) -> Phase:
    """Return the phase of the world's own task."""
    task, tcp, block = world.task, world.tcp(), world.block(world.task.block)
    is_near = float(np.linalg.norm(tcp[:2] - block[:2])) < NEAR_M
    if task.template == "reach":
        return Phase.GRASP if is_near else Phase.REACH
    if task.template == "push":
        is_low = tcp[2] < block[2] + 2 * BLOCK_HALF_M
        if not (is_low and float(np.linalg.norm(tcp[:2] - block[:2])) < 2 * NEAR_M):
            return Phase.REACH
        return Phase.CARRY
    goal = world.block(task.target) if task.template == "stack" else world.zone(task.target)
    if float(np.linalg.norm(block[:2] - goal[:2])) < NEAR_M:
        return Phase.PLACE
    is_held = (
        is_near and abs(tcp[2] - block[2]) < BLOCK_HALF_M and world.gripper_opening() < 2.6 * BLOCK_HALF_M
    )
    if is_held and block[2] > 1.5 * BLOCK_HALF_M:
        return Phase.CARRY
    return Phase.GRASP if is_near else Phase.REACH
