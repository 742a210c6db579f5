"""The two phases of training a model, ready for the loop; factories are plain data: they cross processes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from saccade.export.families.openvla_oft import checkpoint as openvla_oft
from saccade.export.families.openvla_oft.model import OpenVlaOft, initialise
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.sim.training.cloning import Cloning, CloningStage
from saccade.sim.training.demonstrations import classes_of
from saccade.sim.training.loop import STATE, load_weights
from saccade.sim.training.mini import MINIS, Mini, build_config, build_tokenizer
from saccade.sim.training.perception import Perception, PerceptionStage
from saccade.sim.training.shards import Shards
from saccade.sim.training.statistics import read_statistics

HELD_OUT = "held_out"


def build_model(mini: Mini, seed: int) -> OpenVlaOft:
    """Return a model with fresh weights."""
    return initialise(OpenVlaOft(build_config(mini, build_tokenizer(mini))), seed)


def build_perception(mini: Mini, model: OpenVlaOft) -> Perception:
    """Return a model's tower with fresh read-outs."""
    return Perception(model.vision_backbone, model.config.vision_width, len(classes_of(mini.table)))


def open_shards(data: Path) -> tuple[Shards, Shards]:
    """Open training and held-out demonstrations under ``data``."""
    return Shards(sorted(data.glob("demo_*[0-9]"))), Shards([data / HELD_OUT])


@dataclass(frozen=True)
class PerceptionFactory:
    """Builds phase 1: the vision tower on dense labels.

    Args:
        data: Folder of the demonstrations.
        mini: Name of the model.
    """

    data: Path
    mini: str

    def __call__(self, seed: int) -> PerceptionStage:
        """Build the stage with fresh weights."""
        mini = MINIS[self.mini]
        return PerceptionStage(build_perception(mini, build_model(mini, seed)), *open_shards(self.data))


@dataclass(frozen=True)
class CloningFactory:
    """Builds phase 2: behaviour cloning.

    Args:
        run: Working directory: demonstrations, phase 1's state, and what :func:`begin_cloning` wrote.
        mini: Name of the model.
        start: A finished checkpoint to train further; None = phase 1's tower is taken over.
    """

    run: Path
    mini: str
    start: Path | None = None

    def __call__(self, seed: int) -> CloningStage:
        """Build the stage: the weights of ``start``, fresh ones elsewhere."""
        mini = MINIS[self.mini]
        model = build_model(mini, seed)
        if self.start is not None:
            model.load_state_dict(openvla_oft.load(CheckpointFolder(self.start)).model.state_dict())
        else:
            state = self.run / "perception" / STATE
            load_weights(build_perception(mini, model), state)
        training, held_out = open_shards(self.run / "data")
        statistics = read_statistics(self.run / "cloning", mini.table)
        return CloningStage(Cloning(model), build_tokenizer(mini), statistics, training, held_out)
