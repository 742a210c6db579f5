"""What families say of their vision whose cameras' pictures are stretched to a square, and may be cropped."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from saccade.export.families.plain_vision import PlainVision
from saccade.export.models.square_picture import SquarePicture


class SquareVision(PlainVision):
    """To be inherited beside ``nn.Module``: pictures go through :attr:`picture` before the towers."""

    @property
    @abstractmethod
    def picture(self) -> SquarePicture:
        """How a camera's picture becomes what the towers take."""

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the pictures as they come, pixels."""
        return self.picture.camera

    def fit(self, pixels: Tensor) -> Tensor:
        """Stretch pictures to the towers' square, and crop them where evaluation does."""
        return self.picture(pixels)

    @property
    def fit_macs(self) -> int:
        """Multiply-accumulates of stretching and cropping all pictures."""
        return self.pictures * self.picture.macs
