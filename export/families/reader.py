"""What the registry names for each family: how a checkpoint becomes a model, and what is usual where it is silent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Generic, NamedTuple, TypeVar

from torch import nn

from saccade.export.families.checkpoint import Checkpoint
from saccade.export.families.deployment import Deployment
from saccade.export.loading.checkpoint_folder import CONFIG_NAME, CheckpointFolder
from saccade.export.loading.key_rules import KeyRules
from saccade.export.loading.shards import StoredWeights
from saccade.export.loading.weights import load_weights
from saccade.proto.errors import CheckpointError
from saccade.proto.picture_fit import PictureFit
from saccade.proto.video_spec import VideoSpec

ConfigT = TypeVar("ConfigT")
ModelT = TypeVar("ModelT", bound=nn.Module)


class Unit(Enum):
    """What one run of a family gives: costs are counted for one of these."""

    CONTROL_STEP = "control step"
    ACTION = "action"
    """An action, one token after the other."""
    ANSWER = "answer"
    """An answer in text, one token after the other."""

    def text(self, tokens: int) -> str:
        """Return the unit for a person, with the number of tokens where there are any."""
        if self is Unit.CONTROL_STEP:
            return self.value
        return f"{self.value} of {tokens} token{'s' * (tokens != 1)}"


@dataclass(frozen=True)
class UsualDeployment:
    """How a family is usually deployed, for an inspection that is told nothing else.

    Args:
        views: Cameras, or pictures of one question.
        text_tokens: Room for the instruction or question, in tokens.
        new_tokens: Length of an answer, in tokens.
        image_size: Height and width of the pictures as they come, pixels; None = what the towers take.
        any_size_of_many: Several pictures, or frames, come in any size: then ``image_size`` is not assumed.
    """

    views: int
    text_tokens: int
    new_tokens: int = 1
    image_size: tuple[int, int] | None = None
    any_size_of_many: bool = False


class StatedDeployment(NamedTuple):
    """What a checkpoint itself says of how it is deployed; None = it leaves that open.

    Args:
        views: Cameras.
        text_tokens: Room for the instruction, in tokens.
        image_size: Height and width of the pictures as they come, pixels.
        state_dim: Numbers of proprioception that the robot has.
        action_dim: Numbers of an action that the robot has.
    """

    views: int | None = None
    text_tokens: int | None = None
    image_size: tuple[int, int] | None = None
    state_dim: int | None = None
    action_dim: int | None = None


def stated_name(folder: CheckpointFolder) -> str | None:
    """Return what ``config.json`` calls the family: transformers writes ``model_type``, lerobot ``type``.

    Raises:
        CheckpointError: There is no ``config.json``.
    """
    return folder.stated_family


@dataclass(frozen=True, kw_only=True)
class FamilyReader(Generic[ConfigT, ModelT]):
    """How checkpoints of a family are read; :class:`ActingReader` and :class:`AnsweringReader` add what follows.

    Args:
        name: Key in the registry, and the family's name in a manifest.
        read_config: Turns folder and deployment into everything that shapes weights and graph.
        build: Turns a configuration into the model without its weights, on the meta device.
        key_rules: Turns a configuration into the rules by which stored weights come to the model's names.
        usual: Deployment that an inspection assumes where neither the checkpoint nor its user says one.
        unit: Unit that costs are counted for.
        claims: Tells whether a checkpoint is of this family; None = ``config.json`` states its name.
        classes: What ``architectures`` in ``config.json`` may name, one of them; empty = anything.
        stored_weights: Opens a checkpoint's weights; None = the folder's safetensors are opened.
        stated: Tells what a checkpoint itself says of its deployment; None = nothing.
        said_tokens: Turns a configuration into the number of tokens that the model always says; None = as many as it is
            asked for.
    """

    name: str
    read_config: Callable[[CheckpointFolder, Deployment], ConfigT]
    build: Callable[[ConfigT], ModelT]
    key_rules: Callable[[ConfigT], KeyRules]
    usual: UsualDeployment
    unit: Unit
    claims: Callable[[CheckpointFolder], bool] | None = None
    classes: tuple[str, ...] = ()
    stored_weights: Callable[[CheckpointFolder], StoredWeights] | None = None
    stated: Callable[[CheckpointFolder], StatedDeployment] | None = None
    said_tokens: Callable[[ConfigT], int] | None = None

    def is_of(self, folder: CheckpointFolder) -> bool:
        """Whether a checkpoint is of this family.

        Raises:
            CheckpointError: A file that would tell is missing or broken.
        """
        return stated_name(folder) == self.name if self.claims is None else self.claims(folder)

    def open_weights(self, folder: CheckpointFolder) -> StoredWeights:
        """Return the stored weights of a checkpoint; none is read.

        Raises:
            CheckpointError: A file is missing or broken.
        """
        return folder.weights if self.stored_weights is None else self.stored_weights(folder)

    def construct(self, config: ConfigT) -> ModelT:
        """Return the model without its weights, on the meta device.

        Raises:
            CheckpointError: No model has such sizes.
        """
        try:
            return self.build(config)
        except (TypeError, ValueError, ArithmeticError, IndexError, RuntimeError) as error:
            raise CheckpointError(
                f"{CONFIG_NAME}: expected sizes that a model can have, found: {error}."
            ) from error

    def load_model(self, folder: CheckpointFolder, config: ConfigT) -> ModelT:
        """Return the model with its weights, float32, in eval mode; large weights stay in their files.

        Raises:
            CheckpointError: A weight is missing, left over, misshapen or not finite.
        """
        model = self.construct(config)
        load_weights(model, self.open_weights(folder), self.key_rules(config), mapped=True)
        return model.eval().requires_grad_(False)


@dataclass(frozen=True, kw_only=True)
class ActingReader(FamilyReader[ConfigT, ModelT]):
    """How checkpoints of a family that acts are read.

    Args:
        load: Turns a folder into a checkpoint with embodiment, statistics and prompt; raises CheckpointError.
    """

    load: Callable[[CheckpointFolder], Checkpoint[Any]]
    unit: Unit = Unit.CONTROL_STEP


@dataclass(frozen=True, kw_only=True)
class AnsweringReader(FamilyReader[ConfigT, ModelT]):
    """How checkpoints of a family that answers in text are read.

    Args:
        prompt: Turns a number of pictures into the text around them, where the checkpoint has no chat template; may
            raise CheckpointError where that cannot be known.
        picture_size: Turns a configuration into height and width of the pictures that tokens are laid out for, pixels.
        picture_fit: Turns a configuration into how pictures are made to fit.
        placeholders: What chat templates of the family write for a picture or video, beside ``<image>``.
        video_spec: Turns a configuration into the frames of a video that are looked at; None = still pictures only.
        has_chat_template: The chat template beside the weights knows pictures.
    """

    prompt: Callable[[int], str]
    picture_size: Callable[[ConfigT], tuple[int, int]]
    picture_fit: Callable[[ConfigT], PictureFit]
    placeholders: tuple[str, ...] = ("<video>",)
    video_spec: Callable[[ConfigT], VideoSpec] | None = None
    has_chat_template: bool = True
    unit: Unit = Unit.ANSWER
    usual: UsualDeployment = field(
        default_factory=lambda: UsualDeployment(views=1, text_tokens=64, new_tokens=64, image_size=(480, 640))
    )
