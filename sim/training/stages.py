"""The two phases of training saccade-mini, ready for the loop; factories are plain data: they cross processes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from saccade.export.families.openvla_oft import checkpoint as openvla_oft
from saccade.export.families.openvla_oft.model import OpenVlaOft, initialise
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.sim.training.cloning import Cloning, CloningStage
from saccade.sim.training.loop import STATE, load_weights
from saccade.sim.training.mini import build_config, build_tokenizer
from saccade.sim.training.perception import Perception, PerceptionStage
from saccade.sim.training.shards import Shards
from saccade.sim.training.statistics import read_statistics

HELD_OUT = "held_out"


def build_model(seed: int) -> OpenVlaOft:
    """Return saccade-mini with fresh weights."""
    return initialise(OpenVlaOft(build_config(build_tokenizer())), seed)


def open_shards(data: Path) -> tuple[Shards, Shards]:
    """Open training and held-out demonstrations under ``data``."""
    return Shards(sorted(data.glob("demo_*[0-9]"))), Shards([data / HELD_OUT])


@dataclass(frozen=True)
class PerceptionFactory:
    """Builds phase 1: the vision tower on dense labels."""

    data: Path

    def __call__(self, seed: int) -> PerceptionStage:
        """Build the stage with fresh weights."""
        model = build_model(seed)
        training, held_out = open_shards(self.data)
        return PerceptionStage(
            Perception(model.vision_backbone, model.config.vision_width), training, held_out
        )


@dataclass(frozen=True)
class CloningFactory:
    """Builds phase 2: behaviour cloning.

    Args:
        run: Working directory: demonstrations, phase 1's state, and what :func:`begin_cloning` wrote.
        start: A finished checkpoint to train further; None = phase 1's tower is taken over.
    """

    run: Path
    start: Path | None = None

    def __call__(self, seed: int) -> CloningStage:
        """Build the stage: the weights of ``start``, fresh ones elsewhere."""
        model = build_model(seed)
        if self.start is not None:
            model.load_state_dict(openvla_oft.load(CheckpointFolder(self.start)).model.state_dict())
        else:
            state = self.run / "perception" / STATE
            load_weights(Perception(model.vision_backbone, model.config.vision_width), state)
        training, held_out = open_shards(self.run / "data")
        statistics = read_statistics(self.run / "cloning")
        return CloningStage(Cloning(model), build_tokenizer(), statistics, training, held_out)
