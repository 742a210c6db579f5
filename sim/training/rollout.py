"""The model in training drives the arm: quick success rates, and corrections from the scripted expert (DAgger).

Corrections: the model acts, the scripted expert labels every frame the model saw. Source: DAgger (1011.0686), with the
model acting alone (beta = 0); episodes end at success or when they are lost.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from tokenizers import Tokenizer

from saccade.export.families.openvla_oft.model import OpenVlaOft
from saccade.proto.statistics import Statistics
from saccade.sim.tabletop.cameras import VIEWS, Cameras
from saccade.sim.tabletop.table import Table
from saccade.sim.tabletop.tasks import instruction
from saccade.sim.tabletop.world import World
from saccade.sim.training.demonstrations import Frame, is_lost, label_frame

EXECUTE = 4
"""Actions of a chunk that are executed before the model looks again."""


class Driver:
    """A model with its tokenizer and statistics: from a world to a chunk of physical actions."""

    def __init__(self, model: OpenVlaOft, tokenizer: Tokenizer, statistics: Statistics) -> None:
        self._model = model.eval()
        self._tokenizer, self._statistics = tokenizer, statistics

    @torch.no_grad()
    def chunk(self, images: np.ndarray, proprio: np.ndarray, text: str) -> np.ndarray:
        """Return actions float32 ``(chunk, 4)`` for uint8 images ``(views, height, width, 3)``."""
        ids = self._tokenizer.encode(text).ids
        token_ids = torch.zeros(1, self._model.config.max_text_tokens, dtype=torch.int64)
        token_ids[0, : len(ids)] = torch.tensor(ids)
        mask, positions = self._model.sequence_inputs(torch.tensor([len(ids)]))
        state = self._statistics.proprio.normalise(proprio)
        actions = self._model(
            torch.from_numpy(images)[None], torch.from_numpy(state)[None], token_ids, mask, positions
        )
        return self._statistics.action.unnormalise(actions[0].numpy())


def success_rate(driver: Driver, table: Table, template: str, seeds: range) -> float:
    """Return the share of episodes that the model solves."""
    solved = 0
    world = World(table)
    with Cameras(world, table.image_px) as cameras:
        for seed in seeds:
            world.reset(np.random.default_rng(seed), template)
            for _ in _episode(world, cameras, driver):
                pass
            solved += world.succeeded
    return solved / len(seeds)


def correct(driver: Driver, table: Table, seed: int) -> Iterator[Frame]:
    """Yield frames that the model came to see, labelled by the scripted expert, without end."""
    rng = np.random.default_rng(seed)
    world = World(table)
    with Cameras(world, table.image_px) as cameras:
        while True:
            world.reset(rng)
            for frame in _episode(world, cameras, driver, rng):
                if frame is None or is_lost(world):
                    break
                yield frame


def _episode(
    world: World, cameras: Cameras, driver: Driver, label: np.random.Generator | None = None
) -> Iterator[Frame | None]:
    """Run the world's episode to its end; yield a labelled frame per control step if ``label`` is given."""
    text = instruction(world.task, world.layout)
    while not world.is_over():
        yield label_frame(world, cameras, label) if label is not None else None
        images = np.stack([cameras.render(view) for view in VIEWS])
        for action in driver.chunk(images, world.proprio(), text)[:EXECUTE]:
            world.step(action)
            if world.is_over():
                break
