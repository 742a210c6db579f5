"""Colours of the second table."""

from __future__ import annotations

from saccade.sim.tabletop.table import Rgb

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
