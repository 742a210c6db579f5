"""Which part of its task an episode is in, from the world's state; for tables that tell phases apart."""

from __future__ import annotations

from enum import Enum

import numpy as np

from saccade.sim.tabletop.scene import THING_HALF_M
from saccade.sim.tabletop.tasks import INTERCEPT, PUSH, REACH, STACK
from saccade.sim.tabletop.world import World

NEAR_M = 0.04
"""Horizontal distance from which the gripper is at the thing, and the thing at its goal."""


class Phase(str, Enum):
    """The parts of a task."""

    REACH = "reach"
    """The gripper is on its way to the thing."""
    GRASP = "grasp"
    """The gripper is at the thing: descending, touching or closing on it."""
    CARRY = "carry"
    """The thing moves: held in the air, or pushed."""
    PLACE = "place"
    """The thing is at its goal: lowering, releasing, retreating."""


def phase_of(world: World) -> Phase:
    """Return the phase of the world's own task."""
    task, tcp, thing = world.task, world.tcp(), world.thing(world.task.thing)
    is_near = float(np.linalg.norm(tcp[:2] - thing[:2])) < NEAR_M
    if task.template == REACH:
        return Phase.GRASP if is_near else Phase.REACH
    if task.template == PUSH:
        is_low = tcp[2] < thing[2] + 2 * THING_HALF_M
        if not (is_low and float(np.linalg.norm(tcp[:2] - thing[:2])) < 2 * NEAR_M):
            return Phase.REACH
        return Phase.CARRY
    if task.template != INTERCEPT:
        goal = world.thing(task.target) if task.template == STACK else world.zone(task.target)
        if float(np.linalg.norm(thing[:2] - goal[:2])) < NEAR_M:
            return Phase.PLACE
    is_held = (
        is_near and abs(tcp[2] - thing[2]) < THING_HALF_M and world.gripper_opening() < 2.6 * THING_HALF_M
    )
    if is_held and thing[2] > 1.5 * THING_HALF_M:
        return Phase.CARRY
    return Phase.GRASP if is_near else Phase.REACH
