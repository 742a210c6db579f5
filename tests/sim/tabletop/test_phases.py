"""An expert goes through the phases of its task in their order."""

from __future__ import annotations

from contextlib import closing
from itertools import groupby

import pytest

from saccade.sim.tabletop.env import TabletopEnv
from saccade.sim.tabletop.phases import Phase, phase_of
from saccade.sim.tabletop.scripted_expert import scripted_action

EXPECTED = {
    "reach": [Phase.REACH, Phase.GRASP],
    "push": [Phase.REACH, Phase.CARRY],
    "place": [Phase.REACH, Phase.GRASP, Phase.CARRY, Phase.PLACE],
    "stack": [Phase.REACH, Phase.GRASP, Phase.CARRY, Phase.PLACE],
    "intercept": [Phase.REACH, Phase.GRASP, Phase.CARRY],
}


@pytest.mark.parametrize("template", list(EXPECTED))
def test_an_expert_goes_through_the_phases_in_order(template: str) -> None:
    with closing(TabletopEnv(template, image_px=16)) as env:
        env.reset(seed=500_010)
        phases = []
        goes_on = True
        while goes_on:
            phases.append(phase_of(env.world))
            goes_on = env.advance(scripted_action(env.world))
    assert [phase for phase, _ in groupby(phases)] == EXPECTED[template]
