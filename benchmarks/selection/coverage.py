"""What the kept tokens show: the objects that the instruction names, anything at all, or empty table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from saccade.sim.tabletop.cameras import VIEWS
from saccade.sim.tabletop.env import TabletopEnv
from saccade.sim.tabletop.tasks import PLACE, STACK

_LEAST = 0.1
"""A patch shows what at least this share of its pixels show."""

Mask = NDArray[np.bool_]


class Shown(NamedTuple):
    """What the visual tokens of one observation show; bool ``(tokens,)`` each.

    Args:
        told: Tokens that show the thing and the goal that the instruction names.
        things: Tokens that show anything but table and background, the arm included.
    """

    told: Mask
    things: Mask


def shown(env: TabletopEnv, patches: int) -> Shown:
    """Return what each visual token shows, by the simulator's own segmentation.

    Args:
        env: Environment as it was when the observation was taken.
        patches: Number of patches along one side of an image.
    """
    task = env.world.task
    told = [f"thing_{task.thing}"]
    if task.template == STACK:
        told.append(f"thing_{task.target}")
    if task.template == PLACE:
        told.append(f"zone_{task.target}")
    known = env.world.table.slots
    slots = np.stack([env.cameras.render_slots(view) for view in VIEWS])
    size = slots.shape[1] // patches
    tiles = slots.reshape(len(VIEWS), patches, size, patches, size).transpose(0, 1, 3, 2, 4)
    pixels = tiles.reshape(-1, size * size)
    is_told = np.isin(pixels, [known.index(name) for name in told])
    is_thing = pixels != known.index("background")
    return Shown(is_told.mean(axis=1) >= _LEAST, is_thing.mean(axis=1) >= _LEAST)


def coverage(kept: Sequence[NDArray[np.int64]], scenes: Sequence[Shown]) -> dict[str, Any]:
    """Summarise what the kept sets of consecutive control steps show.

    Args:
        kept: Kept visual tokens of each control step, int64 ``(keep,)``.
        scenes: What the visual tokens of each control step show.

    Returns:
        ``told``: the share of the tokens that show what the instruction names which survive; ``things``: the same for
        everything on the table; ``empty``: the share of the kept set that shows none of it.
    """
    rows = []
    for tokens, (told, things) in zip(kept, scenes, strict=True):
        survives = np.zeros(len(told), bool)
        survives[tokens] = True
        rows.append(
            (
                survives[told].mean() if told.any() else np.nan,
                survives[things].mean() if things.any() else np.nan,
                (~things[tokens]).mean(),
            )
        )
    means = np.nanmean(np.array(rows), axis=0)
    return {
        name: round(float(value), 4) for name, value in zip(("told", "things", "empty"), means, strict=True)
    }
