"""A checkpoint of a family that acts, read and found whole: what does not fit is an error that names it.

Which files it has is the family's matter, see :mod:`saccade.export.families.registry`; ``embodiment.json`` beside them
says what its numbers mean.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar, cast

from torch import nn

from saccade.export.families.base import ActingFamily
from saccade.export.families.embedded_tokens import check_vocabulary
from saccade.export.families.embodiment import Embodiment
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.proto.errors import CheckpointError
from saccade.proto.instruction_spec import InstructionSpec
from saccade.proto.statistics import Statistics

FamilyT_co = TypeVar("FamilyT_co", bound=ActingFamily, covariant=True)


@dataclass(frozen=True, kw_only=True)
class Checkpoint(Generic[FamilyT_co]):
    """A checkpoint, and everything that the exporter needs to know of its family.

    Args:
        path: Folder of the checkpoint.
        family: Name of the family, as the manifest says it.
        model: The model with its weights, float32, in eval mode; large ones may be mapped.
        embodiment: Robot that the model was trained for: what its numbers mean.
        statistics: Normalisation of the data set that the model was trained on.
        tokenizer: Path of ``tokenizer.json``.
        instruction: How an instruction becomes token ids.
    """

    path: Path
    family: str
    model: FamilyT_co
    embodiment: Embodiment
    statistics: Statistics
    tokenizer: Path
    instruction: InstructionSpec

    @property
    def module(self) -> nn.Module:
        """The model as torch knows it."""
        return cast(nn.Module, self.model)

    def write_statistics(self, file: Path) -> None:
        """Write the ``statistics.json`` of a bundle: the statistics that were read, wherever the family keeps them."""
        content = self.statistics.to_json(self.embodiment.statistics_key)
        file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def check_tokenizer(folder: CheckpointFolder, vocab_size: int, *, published: str = "") -> Path:
    """Return the path of a checkpoint's tokenizer.

    Args:
        folder: The checkpoint whose tokenizer is asked for.
        vocab_size: Rows of the embedding table.
        published: Model on the Hub whose tokenizer the family has, for a message; empty = not known.

    Raises:
        CheckpointError: The tokenizer is missing, broken, or has words that the model does not know.
    """
    path = folder.find_tokenizer(published)
    check_vocabulary(folder.tokenizer, vocab_size, path.name)
    return path


def check_embodiment(
    embodiment: Embodiment, *, proprio_dim: int, chunk: int, action_dim: int, views: int | None = None
) -> None:
    """Check what the embodiment says against the dimensions of the model.

    Args:
        embodiment: What ``embodiment.json`` says of the robot.
        proprio_dim: Numbers of proprioception.
        chunk: Actions in a chunk.
        action_dim: Numbers in an action.
        views: Number of cameras; None = the checkpoint takes any number.

    Raises:
        CheckpointError: Embodiment and model disagree.
    """
    for what, found, expected in (
        ("views", len(embodiment.views), views),
        ("proprio", embodiment.proprio.dim, proprio_dim),
        ("action", embodiment.action.dim, action_dim),
        ("action.chunk", embodiment.action.chunk, chunk),
        ("limits", len(embodiment.limits.low), action_dim),
    ):
        if expected is not None and found != expected:
            raise CheckpointError(
                f"embodiment.json: {what}: expected {expected} as in config.json, found {found}."
            )
