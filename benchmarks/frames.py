"""Real frames for latency measurements: what the cameras see while the expert works."""

from __future__ import annotations

from contextlib import closing

from saccade.runtime.observation import Observation
from saccade.sim.tabletop.env import TabletopEnv
from saccade.sim.tabletop.scripted_expert import scripted_action
from saccade.sim.tabletop.table import Table
from saccade.sim.tabletop.tables import BUNDLED

_EXECUTE = 4


def recorded_observations(
    count: int, *, image_px: int, seed: int = 0, table: Table = BUNDLED
) -> tuple[str, list[Observation]]:
    """Return an instruction and the observations of its expert episode, repeated as often as needed."""
    observations: list[Observation] = []
    with closing(TabletopEnv("stack", table=table, image_px=image_px)) as env:
        seen, _ = env.reset(seed=seed)
        told = seen["instruction"]
        goes_on = True
        while goes_on and len(observations) < count:
            observations.append(Observation(seen["images"], seen["proprio"], 0, len(observations) + 1))
            for _ in range(_EXECUTE):
                goes_on = goes_on and env.advance(scripted_action(env.world))
            seen = env.observe()
    return told, [observations[index % len(observations)] for index in range(count)]
