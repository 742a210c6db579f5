"""What became of the visual tokens, drawn over the image that the model saw: kept clear, merged tinted, dropped dark.

A merged token has the colour of the survivor that carries it, and a thin mark that points to it (a dot, if it lies in
another view); the survivor has a border of the same colour. The kept region has an outline.
"""

from __future__ import annotations

from colorsys import hsv_to_rgb
from math import hypot

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from saccade.proto.manifest import GridSpec

DROPPED_RGBA = (9, 11, 16, 184)
OUTLINE_RGBA = (255, 196, 110, 230)
_TINT_ALPHA = 104
_MARK_ALPHA = 235
_MARK_LENGTH = 0.42
"""Length of a mark, as a share of a token's shorter side."""
_GOLDEN = 0.6180339887
_LINES_PER_VIEW = 225

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; the last two belong to the box."""


def tint(survivor: int) -> tuple[int, int, int]:
    """Return the colour of a survivor and of what it carries; neighbours differ strongly."""
    red, green, blue = hsv_to_rgb(survivor * _GOLDEN % 1, 0.62, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def token_layer(
    fate: NDArray[np.int64], grid: GridSpec, view: int, *, height: int, width: int
) -> NDArray[np.uint8]:
    """Draw the tokens of one view on nothing.

    Args:
        fate: What became of each token, int64 ``(tokens,)``, see :class:`saccade.runtime.observation.Telemetry`.
        grid: How visual tokens tile the views.
        view: Number of the view.
        height: Height of the layer, pixels.
        width: Width of the layer, pixels.

    Returns:
        RGBA uint8 ``(height, width, 4)``; transparent where every token was kept.
    """
    layer = Image.new("RGBA", (width, height))
    draw = ImageDraw.Draw(layer)
    tiles = _Tiles(grid, view, height, width)
    line = max(1, round(min(height, width) / _LINES_PER_VIEW))
    for token in tiles.tokens:
        survivor = int(fate[token])
        if survivor < 0:
            draw.rectangle(tiles.box(token), fill=DROPPED_RGBA)
        elif survivor != token:
            draw.rectangle(tiles.box(token), fill=(*tint(survivor), _TINT_ALPHA))
            _mark(draw, tiles, token, survivor, line)
    _outline(draw, tiles, fate, line)
    for survivor in sorted(_carriers(fate) & set(tiles.tokens)):
        draw.rectangle(tiles.box(survivor), outline=(*tint(survivor), _MARK_ALPHA), width=line)
    return np.array(layer)


def over(image: NDArray[np.uint8], layer: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lay a layer over an image, which is enlarged to its size: RGB uint8 ``(height, width, 3)``."""
    size = layer.shape[1], layer.shape[0]
    below = Image.fromarray(image)
    if below.size != size:
        below = below.resize(size, Image.Resampling.LANCZOS)
    composed = Image.alpha_composite(below.convert("RGBA"), Image.fromarray(layer))
    return np.asarray(composed.convert("RGB"))


def overlaid(
    image: NDArray[np.uint8], fate: NDArray[np.int64], grid: GridSpec, view: int, *, scale: int = 1
) -> NDArray[np.uint8]:
    """Draw the tokens of a view over its image.

    Args:
        image: What the view showed, RGB uint8 ``(height, width, 3)``.
        fate: What became of each token of the whole observation, int64 ``(tokens,)``.
        grid: How visual tokens tile the views.
        view: Number of the view.
        scale: How many times the image is enlarged before anything is drawn.
    """
    height, width = image.shape[0] * scale, image.shape[1] * scale
    return over(image, token_layer(fate, grid, view, height=height, width=width))


def _carriers(fate: NDArray[np.int64]) -> set[int]:
    """Return the survivors that carry another token."""
    return {survivor for token, survivor in enumerate(fate.tolist()) if survivor not in (token, -1)}


class _Tiles:
    """Where the tokens of one view lie in its picture."""

    def __init__(self, grid: GridSpec, view: int, height: int, width: int) -> None:
        per_view = grid.rows * grid.columns
        self.tokens = range(view * per_view, (view + 1) * per_view)
        self.rows, self.columns = grid.rows, grid.columns
        self._top = [round(row * height / grid.rows) for row in range(grid.rows + 1)]
        self._left = [round(column * width / grid.columns) for column in range(grid.columns + 1)]

    def box(self, token: int) -> Box:
        """Return the pixels of a token."""
        row, column = divmod(token - self.tokens.start, self.columns)
        return self._left[column], self._top[row], self._left[column + 1] - 1, self._top[row + 1] - 1

    def centre(self, token: int) -> tuple[float, float]:
        """Return the middle of a token, x and y."""
        left, top, right, bottom = self.box(token)
        return (left + right) / 2, (top + bottom) / 2


def _mark(draw: ImageDraw.ImageDraw, tiles: _Tiles, token: int, survivor: int, line: int) -> None:
    """Point from a merged token towards its survivor."""
    x, y = tiles.centre(token)
    colour = (*tint(survivor), _MARK_ALPHA)
    if survivor not in tiles.tokens:
        draw.rectangle((x - line / 2, y - line / 2, x + line / 2, y + line / 2), fill=colour)
        return
    left, top, right, bottom = tiles.box(token)
    length = _MARK_LENGTH * min(right - left + 1, bottom - top + 1)
    to_x, to_y = tiles.centre(survivor)
    share = length / hypot(to_x - x, to_y - y)
    draw.line((x, y, x + share * (to_x - x), y + share * (to_y - y)), fill=colour, width=line)


def _outline(draw: ImageDraw.ImageDraw, tiles: _Tiles, fate: NDArray[np.int64], line: int) -> None:
    """Draw the border of the kept region, inside it; nothing if all of the view was kept."""
    numbers = np.asarray(tiles.tokens)
    kept = (fate[numbers] == numbers).reshape(tiles.rows, tiles.columns)
    if kept.all():
        return
    around = np.pad(kept, 1)
    inset = line - 1
    for row, column in np.argwhere(kept).tolist():
        left, top, right, bottom = tiles.box(tiles.tokens.start + row * tiles.columns + column)
        for is_kept, side in (
            (around[row, column + 1], (left, top, right, top + inset)),
            (around[row + 2, column + 1], (left, bottom - inset, right, bottom)),
            (around[row + 1, column], (left, top, left + inset, bottom)),
            (around[row + 1, column + 2], (right - inset, top, right, bottom)),
        ):
            if not is_kept:
                draw.rectangle(side, fill=OUTLINE_RGBA)
