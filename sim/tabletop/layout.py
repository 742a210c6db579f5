"""Random layouts: rejection sampling of blocks, zones and distractors that leave each other room."""

from __future__ import annotations

import numpy as np

from saccade.sim.tabletop import palette
from saccade.sim.tabletop.scene import NUM_BLOCKS, NUM_DISTRACTORS, NUM_ZONES
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
            block_xy=block_xy,
            block_yaw=rng.uniform(-0.25, 0.25, NUM_BLOCKS),
            block_colours=tuple(rng.permutation(list(palette.BLOCK_COLOURS))[:NUM_BLOCKS].tolist()),
            zone_xy=zone_xy,
            zone_colours=tuple(rng.permutation(list(palette.ZONE_COLOURS))[:NUM_ZONES].tolist()),
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
        if not _place(rng, zones, [(zones, _ZONE_GAP_M)], _AREA_M - 0.02):
            return None
    for _ in range(NUM_BLOCKS):
        if not _place(rng, blocks, [(blocks, _BLOCK_GAP_M), (zones, _BLOCK_ZONE_GAP_M)], _AREA_M):
            return None
    for _ in range(NUM_DISTRACTORS):
        gaps = [(blocks, _DISTRACTOR_GAP_M), (zones, _BLOCK_ZONE_GAP_M), (distractors, 0.06)]
        if rng.random() < 0.5 or not _place(rng, distractors, gaps, _AREA_M + 0.03):
            distractors.append(np.full(2, np.nan))
    return np.array(zones), np.array(blocks), np.array(distractors)


def _place(
    rng: np.random.Generator,
    into: list[np.ndarray],
    gaps: list[tuple[list[np.ndarray], float]],
    area: np.ndarray,
) -> bool:
    for _ in range(40):
        point = rng.uniform(-area, area)
        if all(not (np.linalg.norm(point - other) < gap) for others, gap in gaps for other in others):
            into.append(point)
            return True
    return False
