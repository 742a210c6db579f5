"""Five or six things in two colours, two of them on the belt: neither colour nor shape alone is a name."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from saccade.sim.tabletop.shapes.layout import BELT_MPS, sample_layout


@pytest.mark.parametrize("seed", range(20))
def test_every_name_needs_its_colour_and_the_belt_runs_either_way(seed: int) -> None:
    layout = sample_layout(np.random.default_rng(seed))
    assert len(layout.present) in (5, 6) and len(layout.riders) == 2
    names = [layout.thing_name(index) for index in layout.present]
    assert len(set(names)) == len(names)
    colours, shapes = (Counter(name.split()[i] for name in names) for i in (0, 1))
    assert len(colours) == 2 and min(colours.values()) >= 2
    assert len(shapes) == 3 and sum(count == 1 for count in shapes.values()) <= 1
    things = len(layout.present) + len(layout.zone_colours) + np.isfinite(layout.distractor_xy).all(1).sum()
    assert 5 <= things <= 8
    assert (layout.thing_xy[list(layout.at_rest), 0] > layout.belt_edge_m).all()
    assert (layout.thing_xy[list(layout.riders), 1] * np.sign(layout.belt_mps) < 0).all(), (
        "they come towards us"
    )


def test_the_belt_runs_either_way() -> None:
    speeds = {sample_layout(np.random.default_rng(seed)).belt_mps for seed in range(20)}
    assert speeds == {-BELT_MPS, BELT_MPS}
