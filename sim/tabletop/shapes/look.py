"""What changes in the look of the table: surfaces, shades, lamps (also while the episode runs), the mount."""

from __future__ import annotations

import mujoco
import numpy as np

from saccade.sim.tabletop.lighting import Lighting, jog_camera
from saccade.sim.tabletop.scene import NUM_DISTRACTORS
from saccade.sim.tabletop.shapes.surfaces import BELT_BACKWARD, BELT_FORWARD, GROUNDS
from saccade.sim.tabletop.table import Rgb
from saccade.sim.tabletop.tasks import Layout

THING_COLOURS: dict[str, Rgb] = {
    "red": (0.83, 0.12, 0.12),
    "green": (0.13, 0.62, 0.20),
    "blue": (0.13, 0.30, 0.88),
    "yellow": (0.95, 0.80, 0.10),
}
"""Colour and shape make a name: each colour comes in two shapes or more, each shape in two colours."""

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
"""Distractors are never named: a small ball and a small can in colours that nothing else has."""

TABLES: tuple[Rgb, ...] = ((0.78, 0.70, 0.60), (0.62, 0.60, 0.58), (0.85, 0.84, 0.80), (0.55, 0.50, 0.44))
FLOORS: tuple[Rgb, ...] = ((0.28, 0.31, 0.35), (0.42, 0.36, 0.30), (0.50, 0.52, 0.54))
BELTS: tuple[Rgb, ...] = ((0.40, 0.42, 0.45), (0.30, 0.30, 0.32))


def paint(model: mujoco.MjModel, layout: Layout, rng: np.random.Generator) -> Lighting:
    """Lay out surfaces, paint everything and set the lamps, whose light then comes and goes.

    Args:
        model: The table's model, looking as it was compiled.
        layout: Layout of the episode.
        rng: Source of randomness.
    """
    named = [(f"thing_{i}", THING_COLOURS[c]) for i, c in enumerate(layout.thing_colours)]
    named += [(f"zone_{i}", ZONE_COLOURS[c]) for i, c in enumerate(layout.zone_colours)]
    shades = rng.permutation(len(DISTRACTOR_COLOURS))
    named += [(f"distractor_{i}", DISTRACTOR_COLOURS[shades[i]]) for i in range(NUM_DISTRACTORS)]
    for name, colour in named:
        model.geom(name).rgba[:3] = np.clip(np.array(colour) + rng.uniform(-0.04, 0.04, 3), 0, 1)
    grounds = rng.permutation(list(GROUNDS))
    for name, ground, tints in (
        ("table", grounds[0], TABLES),
        ("floor", grounds[1], FLOORS),
        ("belt", BELT_FORWARD if layout.belt_mps > 0 else BELT_BACKWARD, BELTS),
    ):
        material = model.material(ground).id
        tint = np.array(tints[rng.integers(len(tints))])
        model.mat_rgba[material, :3] = np.clip(tint + rng.uniform(-0.06, 0.06, 3), 0, 1)
        model.geom(name).matid[:] = material
    model.light_diffuse[:] *= rng.uniform(0.65, 1.35) * rng.uniform(0.92, 1.08, 3)
    model.light_pos[:] += rng.uniform(-0.3, 0.3, 3)
    jog_camera(model, rng)
    return Lighting(depth=rng.uniform(0.0, 0.35), period_s=rng.uniform(2.0, 8.0), phase=rng.uniform())
