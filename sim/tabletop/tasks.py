"""What the robot can be told to do: templates, wording, and the layouts in which a task can be done.

To touch a block is to bring the closed, empty fingers within 2.5 cm of its top and leave it where it lies; to push it
is to move it 8 cm along, to place it is to leave it in the zone, to stack it is to leave it on the other block. Every
other block must stay where it was.

One layout allows many tasks, so pixels alone never reveal the instruction. Left, right, back and front are the scene
camera's (the user's) left, right, far side and near side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from saccade.sim.tabletop.scene import NUM_BLOCKS, NUM_ZONES, REACH_M

TEMPLATES = ("reach", "push", "place", "stack")

DIRECTIONS: dict[str, tuple[float, float]] = {
    "left": (0.0, -1.0),
    "right": (0.0, 1.0),
    "back": (-1.0, 0.0),
    "front": (1.0, 0.0),
}
"""Unit vectors (x, y) along the world's axes."""

PUSH_DISTANCE_M = 0.08
"""How far a pushed block must travel."""


@dataclass(frozen=True)
class Task:
    """One thing to do in a layout.

    Args:
        template: Task template, one of ``TEMPLATES``.
        block: Index of the block that is touched, pushed, placed or stacked.
        target: Index of the zone (place) or block (stack) that it goes to; unused otherwise.
        direction: Direction of a push, a key of ``DIRECTIONS``; empty otherwise.
    """

    template: str
    block: int
    target: int = -1
    direction: str = ""


@dataclass(frozen=True)
class Layout:
    """Where things are and which colours they have at the start of an episode.

    Args:
        block_xy: Where each block is, ``(3, 2)`` metres.
        block_yaw: How each block is turned, ``(3,)`` radians.
        block_colours: Colour name of each block.
        zone_xy: Where each zone is, ``(2, 2)`` metres.
        zone_colours: Colour name of each zone.
        distractor_xy: Where each distractor is, ``(2, 2)`` metres; NaN where it is absent.
    """

    block_xy: np.ndarray
    block_yaw: np.ndarray
    block_colours: tuple[str, ...]
    zone_xy: np.ndarray
    zone_colours: tuple[str, ...]
    distractor_xy: np.ndarray


def instruction(task: Task, layout: Layout) -> str:
    """Return a task as a sentence, for example ``put the red block in the purple zone``."""
    colour = layout.block_colours[task.block]
    if task.template == "reach":
        return f"touch the {colour} block"
    if task.template == "push":
        return f"push the {colour} block to the {task.direction}"
    if task.template == "place":
        return f"put the {colour} block in the {layout.zone_colours[task.target]} zone"
    return f"stack the {colour} block on the {layout.block_colours[task.target]} block"


def feasible_tasks(layout: Layout, template: str) -> list[Task]:
    """Return every task of ``template`` that the layout leaves room for, in a fixed order."""
    blocks = range(NUM_BLOCKS)
    if template == "reach":
        return [Task(template, block) for block in blocks]
    if template == "place":
        return [Task(template, block, zone) for block in blocks for zone in range(NUM_ZONES)]
    if template == "stack":
        return [Task(template, block, other) for block in blocks for other in blocks if other != block]
    return [
        Task(template, block, direction=direction)
        for block in blocks
        for direction in DIRECTIONS
        if _push_lane_is_free(layout, block, np.array(DIRECTIONS[direction]))
    ]


def _push_lane_is_free(layout: Layout, block: int, direction: np.ndarray) -> bool:
    """The lane from behind the block to where it ends is inside the workspace and clear of other objects."""
    start = layout.block_xy[block]
    behind, end = start - 0.07 * direction, start + (PUSH_DISTANCE_M + 0.02) * direction
    reach = np.array(REACH_M)
    if (np.abs(behind) > reach).any() or (np.abs(end) > reach).any():
        return False
    others = [xy for index, xy in enumerate(layout.block_xy) if index != block]
    others += [xy for xy in layout.distractor_xy if np.isfinite(xy).all()]
    for xy in others:
        along = (xy - start) @ direction
        across = abs((xy - start) @ direction[::-1])
        if -0.13 < along < PUSH_DISTANCE_M + 0.08 and across < 0.075:
            return False
    return True
