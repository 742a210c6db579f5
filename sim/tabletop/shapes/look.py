"""What changes in the look of the second table: surfaces, shades, lamps (also while the episode runs), the mount."""

from __future__ import annotations

import mujoco
import numpy as np

from saccade.sim.tabletop.lighting import Lighting, jog_camera
from saccade.sim.tabletop.scene import NUM_DISTRACTORS
from saccade.sim.tabletop.shapes import palette
from saccade.sim.tabletop.shapes.surfaces import BELT_BACKWARD, BELT_FORWARD, GROUNDS
from saccade.sim.tabletop.tasks import Layout


def paint(model: mujoco.MjModel, layout: Layout, rng: np.random.Generator) -> Lighting:
    """Lay out surfaces, paint everything and set the lamps, whose light then comes and goes.

    Args:
        model: The table's model, looking as it was compiled.
        layout: Layout of the episode.
        rng: Source of randomness.
    """
    named = [(f"thing_{i}", palette.THING_COLOURS[c]) for i, c in enumerate(layout.thing_colours)]
    named += [(f"zone_{i}", palette.ZONE_COLOURS[c]) for i, c in enumerate(layout.zone_colours)]
    shades = rng.permutation(len(palette.DISTRACTOR_COLOURS))
    named += [(f"distractor_{i}", palette.DISTRACTOR_COLOURS[shades[i]]) for i in range(NUM_DISTRACTORS)]
    for name, colour in named:
        model.geom(name).rgba[:3] = np.clip(np.array(colour) + rng.uniform(-0.04, 0.04, 3), 0, 1)
    grounds = rng.permutation(list(GROUNDS))
    for name, ground, tints in (
        ("table", grounds[0], palette.TABLES),
        ("floor", grounds[1], palette.FLOORS),
        ("belt", BELT_FORWARD if layout.belt_mps > 0 else BELT_BACKWARD, palette.BELTS),
    ):
        material = model.material(ground).id
        tint = np.array(tints[rng.integers(len(tints))])
        model.mat_rgba[material, :3] = np.clip(tint + rng.uniform(-0.06, 0.06, 3), 0, 1)
        model.geom(name).matid[:] = material
    model.light_diffuse[:] *= rng.uniform(0.65, 1.35) * rng.uniform(0.92, 1.08, 3)
    model.light_pos[:] += rng.uniform(-0.3, 0.3, 3)
    jog_camera(model, rng)
    return Lighting(depth=rng.uniform(0.0, 0.35), period_s=rng.uniform(2.0, 8.0), phase=rng.uniform())
