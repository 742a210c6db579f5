"""Scripted experts: privileged, memoryless functions of the world's state, so they can label any state.

Each returns an action in physical units, float32 ``(4,)``: ``(dx, dy, dz, gripper)``.
"""

from __future__ import annotations

import numpy as np

from saccade.sim.tabletop.arm import MAX_STEP_M, TCP_MAX_Z_M
from saccade.sim.tabletop.scene import BLOCK, THING_HALF_M
from saccade.sim.tabletop.tasks import DIRECTIONS, INTERCEPT, PUSH, REACH, STACK, Task
from saccade.sim.tabletop.world import World

OPEN, CLOSED = 1.0, 0.0
_TRAVEL_Z_M = 0.13
_HOVER_Z_M = 0.10
_CARRY_Z_M = 0.11
_BEHIND_M = 0.06
_PUSH_Z_M = 0.022
_PUSH_STEP_M = 0.013
_SERVO_LAG_S = 0.1
"""How far the arm is behind its command: half a control step, and what its damping costs."""


def scripted_action(world: World, task: Task | None = None) -> np.ndarray:
    """Return what the scripted expert does now: float32 ``(4,)``.

    Args:
        world: The world, in any state.
        task: The task to pursue; the world's own when ``None``.
    """
    task = task or world.task
    if task.template == REACH:
        goal, grip = _reach(world, task)
    elif task.template == PUSH:
        goal, grip = _push(world, task)
    elif task.template == INTERCEPT:
        goal, grip = _pick_in_motion(world, task)
    else:
        goal, grip = _pick_and_place(world, task)
    goal[2] = min(goal[2], TCP_MAX_Z_M)
    step = np.clip(goal - world.commanded(), -MAX_STEP_M, MAX_STEP_M)
    return np.array([*step, grip], np.float32)


def _reach(world: World, task: Task) -> tuple[np.ndarray, float]:
    tcp, thing = world.tcp(), world.thing(task.thing)
    off = np.linalg.norm(tcp[:2] - thing[:2])
    height = thing[2] + 0.042 if off < 0.012 else max(tcp[2], _HOVER_Z_M) if off < 0.04 else _TRAVEL_Z_M
    return np.array([*thing[:2], height]), CLOSED


def _push(world: World, task: Task) -> tuple[np.ndarray, float]:
    """Get behind the thing and push until the episode ends: how far it has come shows in no image."""
    tcp, thing = world.tcp(), world.thing(task.thing)
    along = np.array(DIRECTIONS[task.direction])
    behind = (thing[:2] - tcp[:2]) @ along
    beside = abs((thing[:2] - tcp[:2]) @ along[::-1])
    is_low = tcp[2] < 0.06
    if is_low and beside < 0.02 and 0.015 < behind < 0.09:
        # A block is kept before the fingers; what is round would be dragged aside by them, so they go straight.
        across = thing[:2] if world.layout.shapes[task.thing] == BLOCK else tcp[:2]
        forward = np.where(along != 0, tcp[:2] + _PUSH_STEP_M * along, across)
        return np.array([*forward, _PUSH_Z_M]), CLOSED
    post = thing[:2] - along * _BEHIND_M
    off = np.linalg.norm(tcp[:2] - post)
    if off < 0.012:
        return np.array([*post, _PUSH_Z_M]), CLOSED
    if is_low and off > 0.02:
        return np.array([*tcp[:2], _TRAVEL_Z_M]), CLOSED
    height = max(tcp[2], _HOVER_Z_M) if off < 0.04 else _TRAVEL_Z_M
    return np.array([*post, height]), CLOSED


def _pick_and_place(world: World, task: Task) -> tuple[np.ndarray, float]:
    tcp, thing, opening = world.tcp(), world.thing(task.thing), world.gripper_opening()
    stacking = task.template == STACK
    base = world.thing(task.target) if stacking else world.zone(task.target)
    rest_z = base[2] + 2 * THING_HALF_M if stacking else THING_HALF_M
    offset = np.linalg.norm(thing[:2] - base[:2])
    is_placed = abs(thing[2] - rest_z) < 0.008 and offset < (0.022 if stacking else 0.035)
    is_near = np.linalg.norm(tcp[:2] - thing[:2]) < 0.022 and abs(tcp[2] - thing[2]) < 0.022
    is_held = is_near and opening < 2 * THING_HALF_M + 0.012
    if is_placed:
        return np.array([*tcp[:2], _TRAVEL_Z_M if opening > 0.07 else tcp[2]]), OPEN
    if is_held:
        return _carry(world, base, rest_z, thing), CLOSED
    off = np.linalg.norm(tcp[:2] - thing[:2])
    if tcp[2] < thing[2] + 0.008 and off < 0.012:
        return np.array([*thing[:2], thing[2]]), CLOSED
    if off < 0.010 or (off < 0.016 and tcp[2] < thing[2] + 0.05):
        return np.array([*thing[:2], thing[2]]), OPEN
    height = max(tcp[2], thing[2] + 0.055) if off < 0.04 else max(_TRAVEL_Z_M, thing[2] + 0.055)
    return np.array([*thing[:2], height]), OPEN


def _pick_in_motion(world: World, task: Task) -> tuple[np.ndarray, float]:
    """Fly over the thing at its own speed, come down on it, close, and take it up."""
    tcp, thing, opening = world.tcp(), world.thing(task.thing), world.gripper_opening()
    ahead = thing[:2] + world.drift(task.thing) * _SERVO_LAG_S
    off = np.linalg.norm(tcp[:2] - thing[:2])
    is_level = abs(tcp[2] - thing[2]) < 0.022
    if off < 0.022 and is_level and opening < 2 * THING_HALF_M + 0.012:
        return np.array([*tcp[:2], _CARRY_Z_M + 0.02]), CLOSED
    if off < 0.015 and tcp[2] < thing[2] + 0.008:
        return np.array([*ahead, thing[2]]), CLOSED
    if off < 0.012 or (off < 0.018 and tcp[2] < thing[2] + 0.05):
        return np.array([*ahead, thing[2]]), OPEN
    height = max(tcp[2], thing[2] + 0.055) if off < 0.04 else _TRAVEL_Z_M
    return np.array([*ahead, height]), OPEN


def _carry(world: World, base: np.ndarray, rest_z: float, thing: np.ndarray) -> np.ndarray:
    tcp = world.tcp()
    to_base = tcp[:2] + base[:2] - thing[:2]
    off = np.linalg.norm(thing[:2] - base[:2])
    above = max(rest_z + 0.04, _CARRY_Z_M)
    if off < 0.010 or (off < 0.016 and thing[2] < above - 0.012):
        return np.array([*to_base, tcp[2] + rest_z - thing[2] - 0.002])
    if thing[2] < above - 0.02:
        return np.array([*tcp[:2], tcp[2] + above - thing[2]])
    return np.array([*to_base, tcp[2] + above - thing[2]])
