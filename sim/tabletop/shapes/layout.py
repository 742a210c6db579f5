"""Random layouts of the table: what is there, in two colours, what rides on the belt, where the rest lies."""

from __future__ import annotations

import numpy as np

from saccade.sim.tabletop.placement import place
from saccade.sim.tabletop.scene import BALL, NUM_DISTRACTORS
from saccade.sim.tabletop.shapes.look import THING_COLOURS, ZONE_COLOURS
from saccade.sim.tabletop.shapes.scene import BELT_HALF_WIDTH_M, BELT_X_M, NUM_ZONES, SHAPES
from saccade.sim.tabletop.tasks import Layout, feasible_tasks

BELT_MPS = 0.12
"""Speed of the belt, metres per second: across the arm's reach in 3.5 s."""
_NUM_RIDERS = 2
_BELT_EDGE_M = BELT_X_M + BELT_HALF_WIDTH_M

_LOW_M, _HIGH_M = np.array([-0.07, -0.175]), np.array([0.165, 0.175])
_THING_GAP_M = 0.09
_ZONE_GAP_M = 0.125
_THING_ZONE_GAP_M = 0.092
_RIM_LOW_M, _RIM_HIGH_M = np.array([0.0, 0.235]), np.array([0.24, 0.27])
"""Where distractors lie, on either side: out of the arm's way."""


def sample_layout(rng: np.random.Generator) -> Layout:
    """Draw a layout in which every task template has at least one feasible task."""
    while True:
        present = np.sort(rng.permutation(len(SHAPES))[: rng.integers(5, len(SHAPES) + 1)])
        riders = tuple(sorted(rng.permutation(present)[:_NUM_RIDERS].tolist()))
        at_rest = [index for index in present.tolist() if index not in riders]
        if sum(SHAPES[index] != BALL for index in at_rest) < 2:
            continue
        points = _sample_points(rng, len(at_rest), num_distractors=int(len(present) < len(SHAPES)))
        if points is None:
            continue
        zone_xy, rest_xy, distractor_xy = points
        belt_mps = BELT_MPS * rng.choice([-1, 1])
        thing_xy = np.full((len(SHAPES), 2), np.nan)
        thing_xy[at_rest] = rest_xy
        thing_xy[list(riders)] = _sample_riders(rng, np.sign(belt_mps))
        layout = Layout(
            shapes=SHAPES,
            thing_xy=thing_xy,
            thing_yaw=rng.uniform(-0.25, 0.25, len(SHAPES)),
            thing_colours=_sample_colours(rng),
            zone_xy=zone_xy,
            zone_colours=tuple(rng.permutation(list(ZONE_COLOURS))[:NUM_ZONES].tolist()),
            distractor_xy=distractor_xy,
            riders=riders,
            belt_mps=float(belt_mps),
            belt_edge_m=_BELT_EDGE_M,
        )
        if feasible_tasks(layout, "push"):
            return layout


def _sample_colours(rng: np.random.Generator) -> tuple[str, ...]:
    """Two colours in all; the two things of a shape have one each, so that no colour and no shape is a name."""
    pair = rng.permutation(list(THING_COLOURS))[:2]
    return tuple(str(colour) for _ in range(len(SHAPES) // 2) for colour in rng.permutation(pair))


def _sample_riders(rng: np.random.Generator, sign: float) -> np.ndarray:
    """Where the riders begin, one behind the other, in a random order: ``(2, 2)`` metres."""
    first = -sign * rng.uniform(0.10, 0.15)
    second = first - sign * rng.uniform(0.11, 0.13)
    return np.array([[BELT_X_M, y] for y in rng.permutation([first, second])])


def _sample_points(
    rng: np.random.Generator, num_things: int, num_distractors: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Zones, things at rest, distractors; ``None`` when a draw leaves no room and must be repeated."""
    zones: list[np.ndarray] = []
    things: list[np.ndarray] = []
    for _ in range(NUM_ZONES):
        if not place(rng, zones, [(zones, _ZONE_GAP_M)], _LOW_M + 0.02, _HIGH_M - 0.02):
            return None
    for _ in range(num_things):
        gaps = [(things, _THING_GAP_M), (zones, _THING_ZONE_GAP_M)]
        if not place(rng, things, gaps, _LOW_M, _HIGH_M):
            return None
    distractors = np.full((NUM_DISTRACTORS, 2), np.nan)
    for index in rng.permutation(NUM_DISTRACTORS)[:num_distractors]:
        distractors[index] = rng.uniform(_RIM_LOW_M, _RIM_HIGH_M) * [1, rng.choice([-1, 1])]
    return np.array(zones), np.array(things), distractors
