"""How a picture of any size becomes what a graph takes: data, so that the host resizes as the model was trained."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from saccade.proto.errors import InputError, ManifestError
from saccade.proto.tiling import Size, Tiling

_RGB = 3
_BYTE = 256


def parse_picture_size(text: str) -> Size:
    """Parse a size as cameras name it, width first.

    Args:
        text: Size as ``WIDTHxHEIGHT``, pixels, four digits at most each.

    Returns:
        Height and width, pixels.

    Raises:
        InputError: The text is no size.
    """
    found = re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})", text)
    if found is None:
        raise InputError(
            f"expected width and height of a picture in pixels, such as 640x480, found {text!r}."
        )
    return int(found[2]), int(found[1])


class FitMethod(str, Enum):
    """What happens where the picture's aspect is another than the view's."""

    STRETCH = "stretch"
    """Both sides are resized, whatever the aspect."""
    NEAR_ASPECT = "near_aspect"
    """Both sides are resized to a size near the view's aspect; a picture of another aspect is refused."""
    CROP = "crop"
    """The shorter side is resized, aspect kept; the middle of the longer one stays."""
    PAD = "pad"
    """The picture is put in the middle of a square of its longer side; the square is resized."""
    TILE = "tile"
    """An overview, both sides resized to one tile, and the picture, aspect kept, padded with black and cut to tiles."""


class Resample(str, Enum):
    """How pixels are interpolated, as Pillow does."""

    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    LANCZOS = "lanczos"


@dataclass(frozen=True)
class PictureFit:
    """What the family's image processor does before it normalises.

    Args:
        method: What happens where the picture's aspect is another than the view's.
        resample: How pixels are interpolated.
        background: Red, green and blue around a picture that is padded to a square, 0 to 255 each; else empty.
        size: Height and width of what the graph takes with method ``near_aspect``, pixels; else empty, and they are the
            view's or a tile's.
        tiling: How a picture is cut to tiles, with method ``tile``; else None. The graph is laid out for pictures of
            the view's size, and takes any that is tiled alike.

    Raises:
        ManifestError: A method lacks what it needs, or has what it does not.
    """

    method: FitMethod
    resample: Resample
    background: tuple[int, ...] = ()
    size: tuple[int, ...] = ()
    tiling: Tiling | None = None

    def __post_init__(self) -> None:
        if (self.method is FitMethod.TILE) != (self.tiling is not None):
            raise ManifestError(
                f"picture_fit: expected a tiling with method 'tile' and only there, found {self.method.value!r} "
                f"{'without' if self.tiling is None else 'with'} one."
            )
        colours = _RGB if self.method is FitMethod.PAD else 0
        if len(self.background) != colours or not all(0 <= level < _BYTE for level in self.background):
            raise ManifestError(
                f"picture_fit: expected a background of {colours} numbers in 0..255 with method "
                f"{self.method.value!r}, found {list(self.background)}."
            )

        sides = 2 if self.method is FitMethod.NEAR_ASPECT else 0
        if len(self.size) != sides or not all(side >= 1 for side in self.size):
            raise ManifestError(
                f"picture_fit: expected a size of {sides} numbers of pixels with method {self.method.value!r}, found "
                f"{list(self.size)}."
            )

    def arrays(self, picture: Size) -> tuple[int, int, int]:
        """Return how many arrays the graph takes for one picture, and their height and width, pixels.

        Args:
            picture: Height and width of the view, pixels.

        Raises:
            ImageError: So narrow a view cannot be tiled.
        """
        if self.tiling is None:
            height, width = self.size or picture
            return 1, height, width
        return self.tiling.lay_out(picture).tiles, self.tiling.tile_px, self.tiling.tile_px
