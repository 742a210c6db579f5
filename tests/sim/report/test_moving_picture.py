"""Every clip has its place on the sheet, and says how many of its patches survived."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from saccade.proto.manifest import GridSpec
from saccade.runtime.observation import Telemetry
from saccade.sim.closed_loop import Episode
from saccade.sim.recorder import Clip
from saccade.sim.report.moving_picture import panel, sheet, write_moving_picture

GRID = GridSpec(views=2, rows=2, columns=2)
SIDE = 40


def clip(kept: list[int | None]) -> Clip:
    """White frames; in each moment only token ``kept`` survives, or nothing is known."""
    fates = [None if one is None else np.where(np.arange(8) == one, one, -1) for one in kept]
    return Clip(
        episode=Episode("reach", 0, "keep", "touch the red block", True, True, 4, ()),
        frames=np.full((len(kept), 2, SIDE, SIDE, 3), 255, np.uint8),
        telemetry=tuple(
            None if fate is None else Telemetry(np.flatnonzero(fate >= 0), fate) for fate in fates
        ),
        profiles=tuple("refused" if one is None else "keep" for one in kept),
        env_steps=tuple(range(len(kept))),
    )


def test_the_patch_that_survived_is_the_bright_one() -> None:
    shown = np.asarray(panel(clip([5]), GRID, 0).convert("L"), float)[: 2 * SIDE]
    tiles = shown.reshape(2, SIDE, 4, SIDE).mean((1, 3))  # rows, columns of both views
    bright = np.argwhere(tiles > 200).tolist()
    assert bright == [[0, 3]], "token 5 is the second of the first row of the second view"


def test_a_moment_of_which_nothing_is_known_is_shown_as_it_is() -> None:
    shown = np.asarray(panel(clip([None]), GRID, 0))
    assert (shown[: 2 * SIDE] == 255).all()


@pytest.mark.parametrize(("clips", "columns", "rows"), [(1, 1, 1), (2, 2, 1), (3, 2, 2), (4, 2, 2)])
def test_the_sheet_has_room_for_all(clips: int, columns: int, rows: int) -> None:
    one = panel(clip([0]), GRID, 0)
    paper = sheet([clip([0])] * clips, GRID, 0)
    assert paper.width // one.width == columns and paper.height // one.height == rows


def test_a_clip_that_has_ended_stands_still(tmp_path: Path) -> None:
    clips = [clip([0, 1, 2]), clip([3])]
    assert write_moving_picture(clips, GRID, tmp_path / "moving.webp") == 3
    assert np.array_equal(sheet(clips, GRID, 2), sheet([clip([2]), clip([3])], GRID, 0))
    with Image.open(tmp_path / "moving.webp") as picture:
        assert picture.size == sheet(clips, GRID, 0).size
