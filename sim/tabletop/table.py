"""What tells one table from another: what lies on it, what can be asked there, how it looks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import mujoco
import numpy as np

from saccade.sim.tabletop.lighting import Lighting
from saccade.sim.tabletop.scene import NUM_DISTRACTORS
from saccade.sim.tabletop.tasks import Layout

Rgb = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table that episodes are played on.

    Args:
        name: Name of the table, as in ``--table``.
        data_set: Key of the statistics of models that were trained on it: how a bundle says where it belongs.
        templates: Task templates, in order.
        image_px: Height and width of the images that its models see, unless they say otherwise, in pixels.
        shapes: Shape of each thing, e.g. ``block``; not all of them are there in every episode.
        thing_colours: Colours that things can have, by name.
        zone_colours: Colours that zones can have, by name.
        num_zones: How many zones there are.
        zone_half_m: Half the side of a zone, metres.
        build_model: Compiles the MuJoCo model.
        sample_layout: Draws the layout of an episode.
        paint: Sets colours, surfaces, lamps and camera of an episode on a model that looks as it was compiled.
    """

    name: str
    data_set: str
    templates: tuple[str, ...]
    image_px: int
    shapes: tuple[str, ...]
    thing_colours: Mapping[str, Rgb]
    zone_colours: Mapping[str, Rgb]
    num_zones: int
    zone_half_m: float
    build_model: Callable[[], mujoco.MjModel]
    sample_layout: Callable[[np.random.Generator], Layout]
    paint: Callable[[mujoco.MjModel, Layout, np.random.Generator], Lighting]

    @property
    def slots(self) -> tuple[str, ...]:
        """Everything a pixel can show: background, arm, then each thing, zone and distractor by its geom's name."""
        return (
            "background",
            "arm",
            *(f"thing_{i}" for i in range(len(self.shapes))),
            *(f"zone_{i}" for i in range(self.num_zones)),
            *(f"distractor_{i}" for i in range(NUM_DISTRACTORS)),
        )
