"""What changes from episode to episode in the look of the first table: shades, lamp, the scene camera's mount."""

from __future__ import annotations

import mujoco
import numpy as np

from saccade.sim.tabletop.blocks import palette
from saccade.sim.tabletop.lighting import STEADY, Lighting, jog_camera
from saccade.sim.tabletop.scene import NUM_DISTRACTORS
from saccade.sim.tabletop.tasks import Layout


def paint(model: mujoco.MjModel, layout: Layout, rng: np.random.Generator) -> Lighting:
    """Paint everything and set the lamp, which then stays as it is.

    Args:
        model: The table's model, looking as it was compiled.
        layout: Layout of the episode.
        rng: Source of randomness.
    """
    painted = [(f"thing_{i}", palette.BLOCK_COLOURS[c]) for i, c in enumerate(layout.thing_colours)]
    painted += [(f"zone_{i}", palette.ZONE_COLOURS[c]) for i, c in enumerate(layout.zone_colours)]
    shades = rng.permutation(len(palette.DISTRACTOR_COLOURS))
    painted += [(f"distractor_{i}", palette.DISTRACTOR_COLOURS[shades[i]]) for i in range(NUM_DISTRACTORS)]
    painted += [("table", palette.TABLE), ("floor", palette.FLOOR)]
    for name, colour in painted:
        spread = 0.08 if name in ("table", "floor") else 0.04
        model.geom(name).rgba[:3] = np.clip(np.array(colour) + rng.uniform(-spread, spread, 3), 0, 1)
    model.light_diffuse[:] *= rng.uniform(0.8, 1.2)
    model.light_pos[:] += rng.uniform(-0.2, 0.2, 3)
    jog_camera(model, rng)
    return STEADY
