"""What families share whose answer is an action, token by token."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from saccade.export.families.base import StepKind
from saccade.export.families.generating import GeneratingModel
from saccade.export.models.vision_transformer import VisionTransformer


class AutoregressiveModel(GeneratingModel):
    """A generating model whose tokens stand for numbers of an action; a family that acts, one action in a chunk."""

    step_kind: ClassVar[StepKind] = StepKind.AUTOREGRESSIVE

    @property
    @abstractmethod
    def towers(self) -> tuple[VisionTransformer, ...]:
        """The vision towers; their channels are concatenated for each patch."""

    @property
    @abstractmethod
    def action_dim(self) -> int:
        """Numbers in an action, and tokens of an answer."""

    @property
    @abstractmethod
    def token_values(self) -> NDArray[np.float32]:
        """What each token of the vocabulary stands for, normalised, float32 ``(vocab_size,)``."""

    @property
    def host_inputs(self) -> tuple[str, ...]:
        """Names of what a control step takes from the host; positions are constants."""
        return ("images", "token_ids", "attention_mask")

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the pictures, pixels."""
        side = self.towers[0].config.image_size
        return side, side

    @property
    def segments(self) -> Mapping[str, int]:
        """The whole sequence of the prompt."""
        return self.layout.segments

    @property
    def action_shape(self) -> tuple[int, int]:
        """Actions in a chunk, and numbers in an action."""
        return 1, self.action_dim

    @property
    def noise_dim(self) -> int:
        """Numbers of noise for each action: 0, tokens are the likeliest."""
        return 0
