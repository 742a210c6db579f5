"""Pictures of any resolution in LLaVA: into which tiles a picture is cut, and which patches of them become tokens.

    picture --resized, aspect kept--> content --padded--> canvas --split--> tiles
    picture --resized to one tile---> overview, the first tile

The tower sees each tile alone. Patches of the split tiles then tile the canvas again, and of these only the rows and
columns that the picture covers become tokens. A camera's pictures are all of one size, so all of this is constant.
Plain arithmetic: the exporter lays out tokens with it, the host cuts pictures with it.

Source:
    LLaVA-NeXT as in transformers 5.23: ``select_best_resolution``, ``get_patch_output_size``, ``unpad_image``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from saccade.proto.errors import ImageError, ManifestError

Size: TypeAlias = tuple[int, int]
"""Height and width, or rows and columns."""
MAX_CANVAS_SIDE_PX = 8192


@dataclass(frozen=True, kw_only=True)
class TileLayout:
    """How pictures of one size are tiled.

    Args:
        picture: Height and width of the picture, pixels.
        canvas: Height and width that it is padded to, pixels, from :func:`best_pinpoint`.
        tile_px: Side of a tile, pixels; divides the canvas.
        side: How many patches there are along one side of a tile.
    """

    picture: Size
    canvas: Size
    tile_px: int
    side: int

    @property
    def split(self) -> Size:
        """Rows and columns of tiles on the canvas."""
        return self.canvas[0] // self.tile_px, self.canvas[1] // self.tile_px

    @property
    def tiles(self) -> int:
        """How many tiles there are, the overview included."""
        return 1 + self.split[0] * self.split[1]

    @property
    def content(self) -> Size:
        """Height and width of the resized picture on the canvas, pixels."""
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


@dataclass(frozen=True)
class Tiling:
    """How a family tiles pictures of any size.

    Args:
        pinpoints: Canvases to choose from, height and width in pixels.
        tile_px: Side of a tile, pixels; divides every pinpoint.
        side: How many patches there are along one side of a tile.

    Raises:
        ManifestError: A canvas is not made of whole tiles, or there is none.
    """

    pinpoints: tuple[Size, ...]
    tile_px: int
    side: int

    def __post_init__(self) -> None:
        sides = [side for canvas in self.pinpoints for side in canvas]
        if (
            self.tile_px < 1
            or self.side < 1
            or not sides
            or any(len(canvas) != 2 for canvas in self.pinpoints)
        ):
            raise ManifestError(
                "tiling: expected tile_px and side >= 1 and pinpoints of height and width, found "
                f"{self.tile_px}, {self.side} and {[list(canvas) for canvas in self.pinpoints]}."
            )
        if any(side % self.tile_px or not 0 < side <= MAX_CANVAS_SIDE_PX for side in sides):
            raise ManifestError(
                f"tiling: expected pinpoints of whole tiles of {self.tile_px} pixels, at most {MAX_CANVAS_SIDE_PX} a "
                f"side, found {[list(canvas) for canvas in self.pinpoints]}."
            )

    def lay_out(self, picture: Size) -> TileLayout:
        """Return how pictures of a size, pixels, are tiled.

        Raises:
            ImageError: The picture is so narrow that nothing of it would remain.
        """
        canvas = best_pinpoint(picture, self.pinpoints)
        layout = TileLayout(picture=picture, canvas=canvas, tile_px=self.tile_px, side=self.side)
        if 0 in layout.grid:
            raise _too_narrow(picture)
        return layout


def best_pinpoint(picture: Size, pinpoints: Iterable[Size]) -> Size:
    """Return the canvas that keeps most of a picture's pixels; of several the one that wastes least, then the first."""
    best = max(pinpoints, key=lambda canvas: (_kept_px(picture, canvas), -canvas[0] * canvas[1]))
    if not _kept_px(picture, best):
        raise _too_narrow(picture)
    return best


def _kept_px(picture: Size, canvas: Size) -> int:
    """Return how many pixels of a picture its canvas keeps; enlarging it adds none."""
    scale = min(canvas[1] / picture[1], canvas[0] / picture[0])
    return min(int(picture[1] * scale) * int(picture[0] * scale), picture[0] * picture[1])


def _too_narrow(picture: Size) -> ImageError:
    return ImageError(
        "expected a picture of which something remains on a canvas of the checkpoint, found "
        f"{picture[1]}x{picture[0]} pixels; take a picture that is less narrow."
    )
