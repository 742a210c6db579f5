"""Random layouts: rejection sampling of blocks, zones and distractors that leave each other room."""

from __future__ import annotations

import numpy as np

from saccade.sim.tabletop.blocks.look import BLOCK_COLOURS, ZONE_COLOURS
from saccade.sim.tabletop.blocks.scene import NUM_ZONES, SHAPES
from saccade.sim.tabletop.placement import place
from saccade.sim.tabletop.scene import NUM_DISTRACTORS
from saccade.sim.tabletop.tasks import Layout, feasible_tasks

_AREA_M = np.array([0.15, 0.17])
_BLOCK_GAP_M = 0.10
_ZONE_GAP_M = 0.15
_BLOCK_ZONE_GAP_M = 0.105
_DISTRACTOR_GAP_M = 0.085


def sample_layout(rng: np.random.Generator) -> Layout:
    """Draw a layout in which every task template has at least one feasible task."""
    while True:
        points = _sample_points(rng)
        if points is None:
            continue
        zone_xy, block_xy, distractor_xy = points
        layout = Layout(
            shapes=SHAPES,
            thing_xy=block_xy,
            thing_yaw=rng.uniform(-0.25, 0.25, len(SHAPES)),
            thing_colours=tuple(rng.permutation(list(BLOCK_COLOURS))[: len(SHAPES)].tolist()),
            zone_xy=zone_xy,
            zone_colours=tuple(rng.permutation(list(ZONE_COLOURS))[:NUM_ZONES].tolist()),
            distractor_xy=distractor_xy,
        )
        if feasible_tasks(layout, "push"):
            return layout


def _sample_points(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Zones, blocks, distractors; ``None`` when a draw leaves no room and must be repeated."""
    zones: list[np.ndarray] = []
    blocks: list[np.ndarray] = []
    distractors: list[np.ndarray] = []
    for _ in range(NUM_ZONES):
        if not place(rng, zones, [(zones, _ZONE_GAP_M)], -(_AREA_M - 0.02), _AREA_M - 0.02):
            return None
    for _ in SHAPES:
        gaps = [(blocks, _BLOCK_GAP_M), (zones, _BLOCK_ZONE_GAP_M)]
        if not place(rng, blocks, gaps, -_AREA_M, _AREA_M):
            return None
    for _ in range(NUM_DISTRACTORS):
        gaps = [(blocks, _DISTRACTOR_GAP_M), (zones, _BLOCK_ZONE_GAP_M), (distractors, 0.06)]
        if rng.random() < 0.5 or not place(rng, distractors, gaps, -(_AREA_M + 0.03), _AREA_M + 0.03):
            distractors.append(np.full(2, np.nan))
    return np.array(zones), np.array(blocks), np.array(distractors)
