"""A short recording of real frames, for the exporter's parity receipts."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from saccade.sim.tabletop.cameras import VIEWS, Cameras
from saccade.sim.tabletop.scripted_expert import scripted_action
from saccade.sim.tabletop.table import Table
from saccade.sim.tabletop.tasks import instruction
from saccade.sim.tabletop.world import World
from saccade.sim.training.rollout import EXECUTE


def write_recording(path: Path, seed: int, table: Table) -> None:
    """Record the scripted expert at every task template, one frame per control step, for ``saccade export --frames``.

    Args:
        path: File to write, ``.npz``: ``images``, ``proprio``, ``instruction``.
        seed: Seed of the episodes, held out of training.
        table: The table to record on.
    """
    images, proprio, text = [], [], []
    world = World(table)
    with Cameras(world, table.image_px) as cameras:
        for template in table.templates:
            world.reset(np.random.default_rng(seed), template)
            while not world.is_over():
                images.append(np.stack([cameras.render(view) for view in VIEWS]))
                proprio.append(world.proprio())
                text.append(instruction(world.task, world.layout))
                for _ in range(EXECUTE):
                    world.step(scripted_action(world))
    np.savez_compressed(path, images=np.stack(images), proprio=np.stack(proprio), instruction=np.array(text))
