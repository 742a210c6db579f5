"""The moving picture darkens what was dropped and nothing else."""

from __future__ import annotations

import numpy as np

from benchmarks.picture import lit
from saccade.proto.manifest import GridSpec


def test_only_dropped_patches_of_the_view_are_darkened() -> None:
    frame = np.full((4, 6, 3), 200, np.uint8)
    shown = lit(frame, GridSpec(views=2, rows=2, columns=3), view=1, kept={1, 6 + 4})
    is_lit = (shown == 200).all(-1)
    assert is_lit[2:, 2:4].all() and is_lit.sum() == 4
    assert (shown[~is_lit] == 56).all()
