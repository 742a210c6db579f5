"""Whether a task is done, as things are now."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from saccade.sim.tabletop.scene import THING_HALF_M
from saccade.sim.tabletop.tasks import DIRECTIONS, INTERCEPT, PLACE, PUSH, PUSH_DISTANCE_M, REACH, STACK, Task

if TYPE_CHECKING:
    from saccade.sim.tabletop.world import World

_UNTOUCHED_M = 0.03
_EMPTY_AND_CLOSED_M = 0.03
"""Fingers closer than this hold nothing."""
_LIFTED_M = 0.04
_ZONE_MARGIN_M = 0.01


def goal_holds(world: World, task: Task) -> bool:
    """Return whether ``task`` is done; no other thing may have been moved.

    Args:
        world: The world, in any state.
        task: A task of the world's layout.
    """
    partner = task.target if task.template == STACK else -1
    others = (i for i in world.layout.present if i not in (task.thing, partner))
    if any(np.linalg.norm(world.thing(i)[:2] - world.undisturbed(i)) > _UNTOUCHED_M for i in others):
        return False
    if task.template == REACH:
        return _is_touched(world, task)
    if task.template == PUSH:
        return _is_pushed(world, task)
    if task.template == INTERCEPT:
        return _is_picked(world, task)
    thing = world.thing(task.thing)
    is_open = world.gripper_opening() > 1.2 * (2 * THING_HALF_M)
    if task.template == PLACE:
        inside = (
            np.abs(thing[:2] - world.zone(task.target)[:2]).max() < world.table.zone_half_m - _ZONE_MARGIN_M
        )
        return bool(inside and thing[2] < 1.3 * THING_HALF_M and is_open)
    base = world.thing(task.target)
    on_top = abs(thing[2] - base[2] - 2 * THING_HALF_M) < 0.012
    return bool(on_top and np.linalg.norm(thing[:2] - base[:2]) < 0.035 and is_open)


def _is_touched(world: World, task: Task) -> bool:
    thing, start = world.thing(task.thing), world.layout.thing_xy[task.thing]
    gap = world.tcp() - thing
    return bool(
        np.linalg.norm(gap[:2]) < 0.022
        and gap[2] < 0.05
        and world.gripper_opening() < _EMPTY_AND_CLOSED_M
        and np.linalg.norm(thing[:2] - start) < _UNTOUCHED_M
    )


def _is_pushed(world: World, task: Task) -> bool:
    thing, start = world.thing(task.thing), world.layout.thing_xy[task.thing]
    direction = np.array(DIRECTIONS[task.direction])
    moved = thing[:2] - start
    drift = abs(moved @ direction[::-1])
    return bool(moved @ direction > PUSH_DISTANCE_M and drift < 0.04 and thing[2] < 1.3 * THING_HALF_M)


def _is_picked(world: World, task: Task) -> bool:
    """Off the belt, between the fingers. Things only leave the belt by being taken: it is longer than an episode."""
    thing = world.thing(task.thing)
    return bool(thing[2] > THING_HALF_M + _LIFTED_M and np.linalg.norm(world.tcp() - thing) < 0.03)
