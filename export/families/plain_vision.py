"""What a family says of its vision when visual tokens are its towers' patches, one for one; others override."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from saccade.export.families.base import Pooling, Work
from saccade.policies.base import Grid


class PlainVision(ABC):
    """Defaults of :class:`saccade.export.families.base.PerceivingFamily`, to be inherited beside ``nn.Module``."""

    @property
    @abstractmethod
    def grid(self) -> Grid:
        """How visual tokens tile the views."""

    def fit(self, pixels: Tensor) -> Tensor:
        """Return the pixels: pictures come in the towers' size."""
        return pixels

    @property
    def fit_macs(self) -> int:
        """Multiply-accumulates of :meth:`fit` for all pictures of an observation."""
        return 0

    @property
    def pictures(self) -> int:
        """Pictures that each tower sees in one observation."""
        return self.grid.views

    @property
    def keeps_patches(self) -> bool:
        """Whether visual tokens are the towers' patches, one for one and in their order: yes."""
        return True

    @property
    def views_are_pictures(self) -> bool:
        """Whether each view's tokens come from the patches of one picture alone: where visual tokens are patches."""
        return self.keeps_patches

    def arrange(self, features: Tensor) -> Tensor:
        """``(batch, patches, vision_width)`` -> ``(batch, visual, channels)``: every patch is a visual token."""
        return features

    def arrange_signal(self, signal: Tensor) -> Tensor:
        """``(batch, patches, channels)`` -> ``(batch, visual, channels)``: what is known of tokens from patches."""
        return signal

    @property
    def pooling(self) -> Pooling | None:
        """How tokens are pooled behind the projector; None = they are not."""
        return None

    @property
    def state_values(self) -> Work:
        """What embedding the robot's state takes; nothing where the state is text, or there is none."""
        return Work(0, 0)

    @property
    def folded_macs(self) -> int:
        """Multiply-accumulates that the module shows and the graph folds into constants."""
        return 0

    folded_parameters: int = 0
    """Parameters that were given up for constants when the model was loaded."""
