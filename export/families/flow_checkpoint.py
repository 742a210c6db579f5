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
    cameras = features.check_views(embodiment.views, embodiment.cameras)
    return embodiment.deployment().image_size or features.camera_size(cameras)


def own_template(embodiment: Embodiment, *templates: str) -> str:
    """Return the template that an embodiment chose, or the usual one.

    Args:
        embodiment: What ``embodiment.json`` says of the robot.
        templates: Prompts that checkpoints like this one were trained with, the usual one first.

    Raises:
        CheckpointError: The embodiment has another template.
    """
    if embodiment.template not in {"", *templates}:
        raise CheckpointError(
            f"embodiment.json: template: expected {' or '.join(map(repr, templates))}, which the checkpoint was "
            f"trained with, or none, found {embodiment.template!r}; leave it out."
        )
    return embodiment.template or templates[0]


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
