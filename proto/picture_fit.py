"""How a picture of any size becomes one that a graph takes: data, so that the host resizes as the model was trained."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class FitMethod(str, Enum):
    """What happens where the picture's aspect is another than the view's."""

    STRETCH = "stretch"
    """Both sides are resized, whatever the aspect."""
    CROP = "crop"
    """The shorter side is resized, aspect kept; the middle of the longer one stays."""


class Resample(str, Enum):
    """How pixels are interpolated, as Pillow does."""

    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    LANCZOS = "lanczos"


@dataclass(frozen=True)
class PictureFit:
    """What the family's image processor does before it normalises.

    Args:
        method: Where aspects differ.
        resample: Interpolation.
    """

    method: FitMethod
    resample: Resample
