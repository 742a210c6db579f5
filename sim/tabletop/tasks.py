"""What the robot can be told to do: templates, wording, and the layouts in which a task can be done.

To touch a thing is to bring the closed, empty fingers within 2.5 cm of its top and leave it where it lies; to push it
is to move it 8 cm along, to place it is to leave it in the zone, to stack it is to leave it on another thing, to pick
it is to take it off the belt while it rides by. Every other thing must stay where it was.

One layout allows many tasks, so pixels alone never reveal the instruction. Left, right, back and front are the scene
camera's (the user's) left, right, far side and near side.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np

from saccade.sim.tabletop.arm import REACH_M
from saccade.sim.tabletop.scene import BALL

REACH, PUSH, PLACE, STACK, INTERCEPT = "reach", "push", "place", "stack", "intercept"

DIRECTIONS: dict[str, tuple[float, float]] = {
    "left": (0.0, -1.0),
    "right": (0.0, 1.0),
    "back": (-1.0, 0.0),
    "front": (1.0, 0.0),
}
"""Unit vectors (x, y) along the world's axes."""

PUSH_DISTANCE_M = 0.08
"""How far a pushed thing must travel."""

VERBS = ("touch", "push", "put", "stack", "pick")
"""First words of the instructions, one for each template."""


@dataclass(frozen=True)
class Task:
    """One thing to do in a layout.

    Args:
        template: Task template, one of the table's.
        thing: Index of the thing that is touched, pushed, placed, stacked or picked.
        target: Index of the zone (place) or thing (stack) that it goes to; unused otherwise.
        direction: Direction of a push, a key of ``DIRECTIONS``; empty otherwise.
    """

    template: str
    thing: int
    target: int = -1
    direction: str = ""


@dataclass(frozen=True)
class Layout:
    """Where things are and which colours they have at the start of an episode.

    Args:
        shapes: Shape of each thing, e.g. ``block``.
        thing_xy: Where each thing is, ``(things, 2)`` metres; NaN where it is absent.
        thing_yaw: How each thing is turned, ``(things,)`` radians.
        thing_colours: Colour name of each thing.
        zone_xy: Where each zone is, ``(zones, 2)`` metres.
        zone_colours: Colour name of each zone.
        distractor_xy: Where each distractor is, ``(distractors, 2)`` metres; NaN where it is absent.
        riders: Indices of the things that ride on the belt.
        belt_mps: Speed of the belt along y, metres per second.
        belt_edge_m: Where the belt ends towards the scene camera, x in metres; things at rest stay in front of it.
    """

    shapes: tuple[str, ...]
    thing_xy: np.ndarray
    thing_yaw: np.ndarray
    thing_colours: tuple[str, ...]
    zone_xy: np.ndarray
    zone_colours: tuple[str, ...]
    distractor_xy: np.ndarray
    riders: tuple[int, ...] = ()
    belt_mps: float = 0.0
    belt_edge_m: float = -inf

    @property
    def present(self) -> tuple[int, ...]:
        """Indices of the things that are there."""
        return tuple(np.flatnonzero(np.isfinite(self.thing_xy).all(1)).tolist())

    @property
    def at_rest(self) -> tuple[int, ...]:
        """Indices of the things that are there and lie still."""
        return tuple(index for index in self.present if index not in self.riders)

    def thing_name(self, index: int) -> str:
        """Return what a thing is called, e.g. ``red block``."""
        return f"{self.thing_colours[index]} {self.shapes[index]}"


def instruction(task: Task, layout: Layout) -> str:
    """Return a task as a sentence, for example ``put the red ball in the purple zone``."""
    thing = layout.thing_name(task.thing)
    if task.template == REACH:
        return f"touch the {thing}"
    if task.template == PUSH:
        return f"push the {thing} to the {task.direction}"
    if task.template == PLACE:
        return f"put the {thing} in the {layout.zone_colours[task.target]} zone"
    if task.template == INTERCEPT:
        return f"pick the {thing}"
    return f"stack the {thing} on the {layout.thing_name(task.target)}"


def feasible_tasks(layout: Layout, template: str) -> list[Task]:
    """Return every task of ``template`` that the layout leaves room for, in a fixed order."""
    things = layout.at_rest
    if template == REACH:
        return [Task(template, thing) for thing in things]
    if template == PLACE:
        return [Task(template, thing, zone) for thing in things for zone in range(len(layout.zone_colours))]
    if template == STACK:
        flat = [thing for thing in things if layout.shapes[thing] != BALL]
        return [Task(template, thing, other) for thing in flat for other in flat if other != thing]
    if template == INTERCEPT:
        return [Task(template, thing) for thing in layout.riders]
    return [
        Task(template, thing, direction=direction)
        for thing in things
        for direction in DIRECTIONS
        if _push_lane_is_free(layout, thing, np.array(DIRECTIONS[direction]))
    ]


def _push_lane_is_free(layout: Layout, thing: int, direction: np.ndarray) -> bool:
    """The lane from behind the thing to where it ends is in reach, off the belt and clear of other objects."""
    start = layout.thing_xy[thing]
    behind, end = start - 0.07 * direction, start + (PUSH_DISTANCE_M + 0.02) * direction
    reach = np.array(REACH_M)
    if (np.abs(behind) > reach).any() or (np.abs(end) > reach).any():
        return False
    if min(behind[0], end[0]) < layout.belt_edge_m:
        return False
    others = [layout.thing_xy[index] for index in layout.at_rest if index != thing]
    others += [xy for xy in layout.distractor_xy if np.isfinite(xy).all()]
    for xy in others:
        along = (xy - start) @ direction
        across = abs((xy - start) @ direction[::-1])
        if -0.13 < along < PUSH_DISTANCE_M + 0.08 and across < 0.075:
            return False
    return True
