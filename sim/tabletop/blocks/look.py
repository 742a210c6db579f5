"""What changes from episode to episode in the look of the first table: shades, lamp, the scene camera's mount."""

from __future__ import annotations

import mujoco
import numpy as np

from saccade.sim.tabletop.lighting import STEADY, Lighting, jog_camera
from saccade.sim.tabletop.scene import NUM_DISTRACTORS
from saccade.sim.tabletop.table import Rgb
from saccade.sim.tabletop.tasks import Layout

BLOCK_COLOURS: dict[str, Rgb] = {
    "red": (0.83, 0.12, 0.12),
    "green": (0.13, 0.62, 0.20),
    "blue": (0.13, 0.30, 0.88),
    "yellow": (0.95, 0.80, 0.10),
}
"""Blocks can be grasped, pushed and stacked."""

ZONE_COLOURS: dict[str, Rgb] = {
    "purple": (0.52, 0.20, 0.70),
    "orange": (0.96, 0.50, 0.12),
    "cyan": (0.20, 0.75, 0.80),
}
"""Zones are flat pads on the table."""

DISTRACTOR_COLOURS: tuple[Rgb, ...] = (
    (0.10, 0.10, 0.11),
    (0.93, 0.93, 0.93),
    (0.45, 0.28, 0.17),
    (0.95, 0.60, 0.70),
)
"""Distractors are never named: a ball and a can in colours that no block or zone has."""

TABLE: Rgb = (0.74, 0.68, 0.60)
FLOOR: Rgb = (0.24, 0.27, 0.31)


def paint(model: mujoco.MjModel, layout: Layout, rng: np.random.Generator) -> Lighting:
    """Paint everything and set the lamp, which then stays as it is.

    Args:
        model: The table's model, looking as it was compiled.
        layout: Layout of the episode.
        rng: Source of randomness.
    """
    painted = [(f"thing_{i}", BLOCK_COLOURS[c]) for i, c in enumerate(layout.thing_colours)]
    painted += [(f"zone_{i}", ZONE_COLOURS[c]) for i, c in enumerate(layout.zone_colours)]
    shades = rng.permutation(len(DISTRACTOR_COLOURS))
    painted += [(f"distractor_{i}", DISTRACTOR_COLOURS[shades[i]]) for i in range(NUM_DISTRACTORS)]
    painted += [("table", TABLE), ("floor", FLOOR)]
    for name, colour in painted:
        spread = 0.08 if name in ("table", "floor") else 0.04
        model.geom(name).rgba[:3] = np.clip(np.array(colour) + rng.uniform(-spread, spread, 3), 0, 1)
    model.light_diffuse[:] *= rng.uniform(0.8, 1.2)
    model.light_pos[:] += rng.uniform(-0.2, 0.2, 3)
    jog_camera(model, rng)
    return STEADY
