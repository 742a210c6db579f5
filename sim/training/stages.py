"""The two phases of training saccade-mini, ready for the loop; factories are plain data: they cross processes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from saccade.export.families.openvla_oft import OpenVlaOft, initialise
from saccade.sim.training.cloning import Cloning, CloningStage
from saccade.sim.training.loop import load_weights
from saccade.sim.training.mini import build_config, build_tokenizer
from saccade.sim.training.perception import Perception, PerceptionStage
from saccade.sim.training.shards import Shards
from saccade.sim.training.statistics import Statistics

HELD_OUT = "held_out"


def build_model(seed: int) -> OpenVlaOft:
    """saccade-mini with fresh weights."""
    return initialise(OpenVlaOft(build_config(build_tokenizer())), seed)


def open_shards(data: Path) -> tuple[Shards, Shards]:
    """Training and held-out demonstrations under ``data``."""
    return Shards(sorted(data.glob("demo_*[0-9]"))), Shards([data / HELD_OUT])


@dataclass(frozen=True)
class PerceptionFactory:
    """Phase 1: the vision tower on dense labels."""

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
    """Phase 2: behaviour cloning over the tower that phase 1 left in ``perception``."""

    data: Path
    perception: Path

    def __call__(self, seed: int) -> CloningStage:
        """Build the stage: phase 1's tower, fresh weights elsewhere."""
        model = build_model(seed)
        load_weights(Perception(model.vision_backbone, model.config.vision_width), self.perception)
        training, held_out = open_shards(self.data)
        statistics = Statistics.read(self.data / "statistics.json")
        return CloningStage(Cloning(model), build_tokenizer(), statistics, training, held_out)
