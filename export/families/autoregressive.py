"""What families share whose answer is an action, said token by token."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from numpy.typing import NDArray

from saccade.export.families.generating import GeneratingModel


class AutoregressiveModel(GeneratingModel):
    """A generating model whose tokens stand for numbers of an action."""

    @property
    @abstractmethod
    def action_dim(self) -> int:
        """Numbers in an action, and tokens of an answer."""

    @property
    @abstractmethod
    def token_values(self) -> NDArray[np.float32]:
        """What each token of the vocabulary stands for, normalised, float32 ``(vocab_size,)``."""
