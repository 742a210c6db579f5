"""Colours and shapes of the tabletop: what an instruction can name, and what it cannot."""

from __future__ import annotations

Rgb = tuple[float, float, float]

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
