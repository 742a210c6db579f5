"""Pictures of any resolution in LLaVA: into which tiles a picture is cut, and which patches of them become tokens.

    picture --resized, aspect kept--> content --padded--> canvas --split--> tiles
    picture --resized to one tile---> overview, the first tile

The tower sees each tile alone. Patches of the split tiles then tile the canvas again, and of these only the rows and
columns that the picture covers become tokens. A camera's pictures are all of one size, so all of this is constant.

Arithmetic is plain Python; pixels are NumPy and Pillow, the host's part.

Source:
    LLaVA-NeXT as in transformers 5.23: ``select_best_resolution``, ``get_patch_output_size``, ``unpad_image``, and the
    Pillow variant of its image processors; with the torchvision variant pixels differ by rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from saccade.proto.errors import ExportError, ImageError

Size: TypeAlias = tuple[int, int]
"""Height and width, or rows and columns."""
Pixels: TypeAlias = NDArray[np.uint8]
"""RGB, channels last."""


@dataclass(frozen=True, kw_only=True)
class TileLayout:
    """How pictures of one size are tiled.

    Args:
        picture: Size of the picture, pixels.
        canvas: Size that it is padded to, pixels, from :func:`best_pinpoint`.
        tile_px: Side of a tile; divides the canvas.
        side: Patches along one side of a tile.
    """

    picture: Size
    canvas: Size
    tile_px: int
    side: int

    @property
    def split(self) -> Size:
        """Tiles of the canvas."""
        return self.canvas[0] // self.tile_px, self.canvas[1] // self.tile_px

    @property
    def tiles(self) -> int:
        """Tiles with the overview."""
        return 1 + self.split[0] * self.split[1]

    @property
    def content(self) -> Size:
        """Size of the resized picture on the canvas, pixels."""
        (height, width), (canvas_height, canvas_width) = self.picture, self.canvas
        by_height, by_width = canvas_height / height, canvas_width / width
        if by_width < by_height:
            return min(math.ceil(height * by_width), canvas_height), canvas_width
        return canvas_height, min(math.ceil(width * by_height), canvas_width)

    @property
    def covered(self) -> tuple[range, range]:
        """Rows and columns of the canvas' patches that become tokens; at an edge some may show padding."""
        (height, width), rows, columns = self.picture, self.split[0] * self.side, self.split[1] * self.side
        if width / height > columns / rows:
            cut = (rows - int(round(height * (columns / width), 7))) // 2
            return range(cut, rows - cut), range(columns)
        cut = (columns - int(round(width * (rows / height), 7))) // 2
        return range(rows), range(cut, columns - cut)

    @property
    def grid(self) -> Size:
        """How many rows and columns become tokens."""
        return len(self.covered[0]), len(self.covered[1])

    @property
    def patches(self) -> tuple[int, ...]:
        """Which patches become tokens, in their order: the overview's, then the canvas' row by row.

        A number counts the patches of all tiles, one tile after the other.
        """
        per_tile, rows, columns = self.side**2, *self.covered
        return (
            *range(per_tile),
            *(
                (1 + row // self.side * self.split[1] + column // self.side) * per_tile
                + row % self.side * self.side
                + column % self.side
                for row in rows
                for column in columns
            ),
        )


def lay_out(picture: Size, pinpoints: Iterable[Size], tile_px: int, side: int) -> TileLayout:
    """Return how pictures of a size are tiled.

    Args:
        picture: Pixels.
        pinpoints: Canvases to choose from, pixels.
        tile_px: Side of a tile; divides every pinpoint.
        side: Patches along one side of a tile.

    Raises:
        ExportError: The picture is so narrow that nothing of it would remain.
    """
    layout = TileLayout(picture=picture, canvas=best_pinpoint(picture, pinpoints), tile_px=tile_px, side=side)
    if 0 in layout.grid:
        raise _too_narrow(picture)
    return layout


def best_pinpoint(picture: Size, pinpoints: Iterable[Size]) -> Size:
    """Return the canvas that keeps most of a picture's pixels; of several the one that wastes least, then the first."""
    best = max(pinpoints, key=lambda canvas: (_kept_px(picture, canvas), -canvas[0] * canvas[1]))
    if not _kept_px(picture, best):
        raise _too_narrow(picture)
    return best


def cut_tiles(picture: Pixels, layout: TileLayout) -> Pixels:
    """Cut a picture into tiles.

    Args:
        picture: uint8 ``(height, width, 3)``.
        layout: For its size.

    Returns:
        uint8 ``(tiles, tile_px, tile_px, 3)``, the overview first, then the canvas' tiles row by row.

    Raises:
        ImageError: The picture has another size or dtype.
    """
    if picture.shape != (*layout.picture, 3) or picture.dtype != np.uint8:
        raise ImageError(
            f"expected a picture of uint8 {(*layout.picture, 3)}, found {picture.dtype} {picture.shape}; send what the "
            "model was exported for."
        )
    (height, width), (rows, columns), side = layout.content, layout.split, layout.tile_px
    top, left = (layout.canvas[0] - height) // 2, (layout.canvas[1] - width) // 2
    canvas = np.zeros((*layout.canvas, 3), np.uint8)
    canvas[top : top + height, left : left + width] = squash(picture, layout.content)
    tiles = canvas.reshape(rows, side, columns, side, 3).swapaxes(1, 2).reshape(-1, side, side, 3)
    return np.concatenate([squash(picture, (side, side))[None], tiles])


def squash(picture: Pixels, size: Size) -> Pixels:
    """Resize a picture bicubically, uint8 ``(height, width, 3)``, whatever becomes of its aspect."""
    resized = Image.fromarray(picture).resize((size[1], size[0]), Image.Resampling.BICUBIC)
    return np.asarray(resized, np.uint8)


def pad_to_square(picture: Pixels, background: tuple[int, int, int]) -> Pixels:
    """Put a picture, uint8 ``(height, width, 3)``, in the middle of a square of its longer side."""
    height, width = picture.shape[:2]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    square = np.full((side, side, 3), background, np.uint8)
    square[top : top + height, left : left + width] = picture
    return square


def _kept_px(picture: Size, canvas: Size) -> int:
    """Return how many pixels of a picture its canvas keeps; enlarging it adds none."""
    scale = min(canvas[1] / picture[1], canvas[0] / picture[0])
    return min(int(picture[1] * scale) * int(picture[0] * scale), picture[0] * picture[1])


def _too_narrow(picture: Size) -> ExportError:
    return ExportError(
        f"expected a picture of which something remains on a canvas of the checkpoint, found {picture[0]} x "
        f"{picture[1]} pixels; give image_size as height and width of the camera's pictures."
    )
