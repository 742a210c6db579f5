"""Which vision tower a policy reads, and whose attention there: models have several towers, or no class token."""

from __future__ import annotations

from typing import Literal

from saccade.policies.base import ModelShape
from saccade.policies.config import require
from saccade.policies.signals import VisionRows

RowsOption = Literal["class", "patches"]


def choose_tower(option: int | None, shape: ModelShape) -> int:
    """Return the tower that a method about class tokens reads.

    Args:
        option: The configured tower, or None for the first one with a class token, else the last one.
        shape: Layers, grid and towers of the model.

    Raises:
        PolicyError: The model has no such tower.
    """
    count = len(shape.towers)
    with_class = [index for index, tower in enumerate(shape.towers) if tower.has_class_token]
    tower = (with_class[0] if with_class else count - 1) if option is None else option
    require(0 <= tower < count, "tower", f"in 0..{count - 1} for a model of {count} vision towers", tower)
    return tower


def choose_rows(option: RowsOption | None, tower: int, shape: ModelShape) -> RowsOption:
    """Return whose attention says what is salient: the class token's, or every patch's where there is none.

    Args:
        option: The configured rows, or None for what the tower has.
        tower: The tower that is read.
        shape: Layers, grid and towers of the model.

    Raises:
        PolicyError: The class token's rows of a tower without one.
    """
    has_class_token = shape.towers[tower].has_class_token
    rows = ("class" if has_class_token else "patches") if option is None else option
    require(
        VisionRows(rows) is VisionRows.PATCHES or has_class_token,
        "rows",
        f"'patches' where tower {tower} has no class token",
        rows,
    )
    return rows
