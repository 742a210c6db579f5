"""The family that a checkpoint belongs to, and its model without weights: from configuration and headers of files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saccade.export.families.base import PerceivingFamily
from saccade.export.families.deployment import Deployment
from saccade.export.families.embodiment import EMBODIMENT_NAME, Embodiment, read_embodiment
from saccade.export.families.prompts import with_prompt
from saccade.export.families.reader import ActingReader, AnsweringReader, FamilyReader, StatedDeployment, Unit
from saccade.export.families.registry import find_reader
from saccade.export.loading.checkpoint_folder import CONFIG_NAME, CheckpointFolder
from saccade.export.loading.data_sets import DATA_SETS_NAME
from saccade.export.loading.shards import StoredWeights
from saccade.export.loading.torch_heads import check_head_step
from saccade.export.loading.weights import plan_weights
from saccade.proto.errors import CheckpointError
from saccade.proto.inspection import InspectionRequest


@dataclass(frozen=True)
class Opened:
    """A checkpoint whose weights were not read.

    Args:
        folder: The checkpoint, opened.
        reader: Reader of the checkpoint's family.
        model: The model on the meta device, before constants are folded.
        new_tokens: Length of an answer, in tokens.
        stored: The stored weights; None = the weight files were not looked at.
        assumed: What the checkpoint left open and was taken as usual, in words.
    """

    folder: CheckpointFolder
    reader: FamilyReader[Any, Any]
    model: PerceivingFamily
    new_tokens: int
    stored: StoredWeights | None
    assumed: tuple[str, ...]

    @property
    def unit(self) -> str:
        """What costs are counted for, in words, e.g. ``answer of 64 tokens``."""
        return self.reader.unit.text(self.new_tokens)


def recognise(path: Path) -> str:
    """Return the family of a checkpoint.

    Raises:
        CheckpointError: There is no ``config.json``, or it names no family that is known here.
    """
    return find_reader(CheckpointFolder(path)).name


def open_checkpoint(path: Path, request: InspectionRequest) -> Opened:
    """Read a checkpoint up to its weights, and match their names and shapes with what the configuration wants.

    Raises:
        CheckpointError: A file, key or shape is missing, left over or wrong.
        ExportError: The deployment does not fit the family.
    """
    folder = CheckpointFolder(path, request.tokenizer, request.head_step)
    check_head_step(folder)
    reader = find_reader(folder)
    deployment, assumed = _deployment(folder, reader, request)
    if isinstance(reader, AnsweringReader):
        deployment, bare = _prompted(folder, reader, deployment)
        assumed += bare
    config = reader.read_config(folder, deployment)
    model = reader.construct(config)
    stored = None
    if request.reads_weights:
        stored = reader.open_weights(folder)
        wanted = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
        plan_weights(wanted, stored, reader.key_rules(config))
    said = None if reader.said_tokens is None else reader.said_tokens(config)
    new_tokens = said or request.new_tokens or reader.usual.new_tokens
    if request.new_tokens is None and reader.unit is Unit.ANSWER:
        assumed = (*assumed, f"an answer of {new_tokens} tokens (--new-tokens)")
    return Opened(folder, reader, model, new_tokens, stored, assumed)


def _prompted(
    folder: CheckpointFolder, reader: AnsweringReader[Any, Any], deployment: Deployment
) -> tuple[Deployment, tuple[str, ...]]:
    """Put the prompt's own tokens around the pictures, where the checkpoint has what tells them."""
    if not folder.has_tokenizer:
        return deployment, ()
    folder.find_tokenizer()
    try:
        return with_prompt(folder, reader, deployment)[0], ()
    except CheckpointError:
        return deployment, ("no text before the pictures, since the prompt cannot be told",)


def _deployment(
    folder: CheckpointFolder, reader: FamilyReader[Any, Any], request: InspectionRequest
) -> tuple[Deployment, tuple[str, ...]]:
    """Return the deployment that was asked for, is stated, or is usual, and what was taken as usual."""
    usual, assumed = reader.usual, []
    stated, robot = _stated(folder, reader)
    views = request.views or stated.views or usual.views
    if request.views is None and stated.views is None:
        assumed.append(f"{views} view{'s' * (views != 1)} (--views)")
    text = request.text_tokens or stated.text_tokens or usual.text_tokens
    if request.text_tokens is None and stated.text_tokens is None:
        assumed.append(f"room for {text} tokens of text (--text-tokens)")
    size = request.image_size or stated.image_size
    is_any_size = usual.any_size_of_many and (views > 1 or request.frames > 0)
    if size is None and usual.image_size is not None and not is_any_size:
        size = usual.image_size
        assumed.append(f"pictures of {size[1]}x{size[0]} (--image-size)")
    deployment = Deployment(
        views=views,
        frames=request.frames,
        image_size=size,
        max_text_tokens=text,
        state_dim=stated.state_dim,
        action_dim=stated.action_dim,
        chunk=None if robot is None else robot.action.chunk,
        crop=None if robot is None else robot.crop,
        statistics_key=request.data_set or _first_data_set(folder),
    )
    return deployment, tuple(assumed)


def _stated(
    folder: CheckpointFolder, reader: FamilyReader[Any, Any]
) -> tuple[StatedDeployment, Embodiment | None]:
    """Return what the checkpoint and an embodiment beside it say of its deployment, and the embodiment."""
    said = StatedDeployment() if reader.stated is None else reader.stated(folder)
    if not (isinstance(reader, ActingReader) and folder.has(EMBODIMENT_NAME)):
        return said, None
    robot = read_embodiment(folder)
    size = robot.deployment().image_size or said.image_size
    dims = said.state_dim or robot.proprio.dim, said.action_dim or robot.action.dim
    return StatedDeployment(len(robot.views), said.text_tokens, size, *dims), robot


def _first_data_set(folder: CheckpointFolder) -> str | None:
    """Return the first of several data sets: all that is asked of it is how many numbers an action has."""
    name = DATA_SETS_NAME if folder.has(DATA_SETS_NAME) else CONFIG_NAME
    sets = folder.read(name) if name == DATA_SETS_NAME else folder.config.get("norm_stats")
    return next(iter(sets), None) if isinstance(sets, Mapping) else None
