"""What reading a checkpoint has in common for all families that draw their actions out of noise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from tokenizers import Tokenizer

from saccade.export.families.checkpoint import Checkpoint
from saccade.export.families.embodiment import Embodiment
from saccade.export.families.flow_family import FlowFamily
from saccade.export.families.reader import FamilyReader, StatedDeployment
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.lerobot_features import LerobotFeatures, read_features
from saccade.proto.errors import CheckpointError
from saccade.proto.instruction_spec import InstructionSpec
from saccade.proto.statistics import Statistics

ConfigT = TypeVar("ConfigT")
FlowT = TypeVar("FlowT", bound=FlowFamily)


def load_flow_model(reader: FamilyReader[ConfigT, FlowT], folder: CheckpointFolder, config: ConfigT) -> FlowT:
    """Return a model with its weights, large ones mapped, time folded into constants, in eval mode.

    Raises:
        CheckpointError: A weight is missing, left over, misshapen or not finite.
    """
    model = reader.load_model(folder, config)
    model.fold()
    return model.requires_grad_(False)


def picture_size(embodiment: Embodiment, features: LerobotFeatures) -> tuple[int, int]:
    """Return height and width of the pictures, pixels: the embodiment's, or those that a lerobot policy was trained on.

    Raises:
        CheckpointError: The policy has no such cameras in this order, or nothing says one size for them all.
    """
    own = embodiment.image_size
    if not own:
        return features.camera_size(embodiment.views)
    features.check_views(embodiment.views)
    if len(own) != 2 or min(own) < 1:
        raise CheckpointError(f"embodiment.json: image_size: expected height and width, found {list(own)}.")
    return own[0], own[1]


def own_template(embodiment: Embodiment, template: str) -> str:
    """Return the family's template; an embodiment may repeat it, but not choose another.

    Raises:
        CheckpointError: The embodiment has another template.
    """
    if embodiment.template not in {"", template}:
        raise CheckpointError(
            f"embodiment.json: template: expected {template!r}, which the family was trained with, or none, found "
            f"{embodiment.template!r}; leave it out."
        )
    return template


def special_tokens_before(tokenizer: Tokenizer) -> tuple[int, ...]:
    """Return what a tokenizer puts in front of a text by itself.

    Raises:
        CheckpointError: The tokenizer puts something behind the text too.
    """
    plain = tokenizer.encode("a", add_special_tokens=False).ids
    whole = tokenizer.encode("a", add_special_tokens=True).ids
    if whole[len(whole) - len(plain) :] != plain:
        raise CheckpointError(
            f"tokenizer.json: expected special tokens in front of a text only, found {whole} around {plain}."
        )
    return tuple(whole[: len(whole) - len(plain)])


def flow_checkpoint(
    folder: CheckpointFolder,
    family: str,
    model: FlowFamily,
    embodiment: Embodiment,
    statistics: Statistics,
    tokenizer: Path,
    instruction: InstructionSpec,
) -> Checkpoint[FlowFamily]:
    """Put a checkpoint together; its one data set is named for the embodiment where it has no name."""
    named = embodiment if embodiment.statistics_key else replace(embodiment, statistics_key=embodiment.name)
    return Checkpoint(
        path=folder.path,
        family=family,
        model=model,
        embodiment=named,
        statistics=statistics,
        tokenizer=tokenizer,
        instruction=instruction,
    )


def lerobot_deployment(folder: CheckpointFolder) -> StatedDeployment:
    """Return what a checkpoint says of cameras, robot and prompt, where lerobot wrote it."""
    if "input_features" not in folder.config:
        return StatedDeployment()
    features, room = read_features(folder), folder.config.get("tokenizer_max_length")
    sizes = set(features.cameras.values())
    return StatedDeployment(
        views=len(features.cameras) or None,
        text_tokens=room if isinstance(room, int) else None,
        image_size=sizes.pop() if len(sizes) == 1 else None,
        state_dim=features.state_dim,
        action_dim=features.action_dim,
    )
