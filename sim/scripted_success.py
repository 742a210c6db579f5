"""How often the scripted experts do what they are told to do."""

from __future__ import annotations

import numpy as np

from saccade.sim.scoring import SuccessRate
from saccade.sim.tabletop.scripted_expert import scripted_action
from saccade.sim.tabletop.table import Table
from saccade.sim.tabletop.tables import BUNDLED
from saccade.sim.tabletop.world import World


def scripted_success_rate(template: str, seeds: range, table: Table = BUNDLED) -> SuccessRate:
    """Run one scripted episode for each seed, without rendering.

    The episodes are those of :class:`saccade.sim.tabletop.env.TabletopEnv` with the same seeds.

    Args:
        template: Task template.
        seeds: Seeds of the episodes.
        table: The table to play on.
    """
    world = World(table)
    solved = 0
    for seed in seeds:
        world.reset(np.random.default_rng(seed), template)
        while not world.is_over():
            world.step(scripted_action(world))
        solved += world.succeeded
    return SuccessRate(solved, len(seeds))
