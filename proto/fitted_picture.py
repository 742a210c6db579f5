"""Makes a picture fit a view, the same at export and on the robot; alone in this folder it needs Pillow."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from saccade.proto.errors import ImageError
from saccade.proto.manifest import ViewSpec
from saccade.proto.picture_fit import FitMethod, PictureFit, Resample
from saccade.proto.tiling import Size, Tiling

_FILTERS = {
    Resample.BILINEAR: Image.Resampling.BILINEAR,
    Resample.BICUBIC: Image.Resampling.BICUBIC,
    Resample.LANCZOS: Image.Resampling.LANCZOS,
}

_MOST_STRETCHED = 1.1
"""Largest ratio of a picture's aspect to the view's where a picture of near aspect is expected."""
_MOST_PIXELS = 2**26
"""Largest picture on its way into a view, some 400 MB with the copy: a photograph of 8000x6000 padded to a square fits.
"""


def fit_picture(picture: NDArray[np.uint8], view: ViewSpec, fit: PictureFit) -> NDArray[np.uint8]:
    """Make a picture fit a view.

    Args:
        picture: uint8 ``(height, width, 3)``, RGB, any size.
        view: The view that the graph was exported for: its height and width.
        fit: How pictures of another size are made to fit: cropped, padded, stretched or cut to tiles.

    Returns:
        What the graph takes for this view, uint8 ``(pictures, height, width, 3)``: tiles, or the one picture.

    Raises:
        ImageError: Another dtype or shape than that of a picture, or it cannot be fitted: so narrow that nothing would
            be left of one side, tiled otherwise than the graph is, or of another aspect where that counts.
    """
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or 0 in picture.shape:
        raise ImageError(
            f"expected a picture uint8 (height, width, 3), found {picture.dtype} {list(picture.shape)}."
        )
    if fit.tiling is not None:
        return _cut_tiles(picture, view, fit.tiling, fit.resample)
    if fit.method is FitMethod.CROP:
        return _crop(picture, view, fit.resample)[None]
    if fit.method is FitMethod.PAD:
        picture = _pad_to_square(picture, fit.background)
    if fit.method is FitMethod.NEAR_ASPECT:
        _check_aspect(picture, view)
    return _resize(picture, fit.arrays((view.height, view.width))[1:], fit.resample)[None]


def _check_aspect(picture: NDArray[np.uint8], view: ViewSpec) -> None:
    height, width = picture.shape[:2]
    stretch = (width * view.height) / (height * view.width)
    if not 1 / _MOST_STRETCHED <= stretch <= _MOST_STRETCHED:
        raise ImageError(
            f"expected a picture of about the aspect of {view.width}x{view.height}, found {width}x{height}: crop it, "
            f"or export again with --image-size {width}x{height}."
        )


def _check_room(picture: NDArray[np.uint8], pixels: int) -> None:
    """Refuse a picture so narrow that a few of its pixels would fill the memory on their way into the view."""
    if pixels > _MOST_PIXELS:
        height, width = picture.shape[:2]
        raise ImageError(
            f"expected a picture that becomes {_MOST_PIXELS} pixels at most on its way into the view, found {width}x"
            f"{height}, which becomes {pixels}: crop it."
        )


def _resize(picture: NDArray[np.uint8], size: Size, resample: Resample) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(picture).resize((size[1], size[0]), _FILTERS[resample]))


def _crop(picture: NDArray[np.uint8], view: ViewSpec, resample: Resample) -> NDArray[np.uint8]:
    if view.height != view.width:
        raise ImageError(f"expected a square view to crop a picture for, found {view.height} x {view.width}.")
    # The longer side is rounded down, and the rest of an odd border falls to the right and below, as in transformers.
    short, side = min(picture.shape[:2]), view.height
    height, width = (side if edge == short else int(side * edge / short) for edge in picture.shape[:2])
    _check_room(picture, height * width)
    top, left = (height - side) // 2, (width - side) // 2
    return _resize(picture, (height, width), resample)[top : top + side, left : left + side]


def _pad_to_square(picture: NDArray[np.uint8], background: tuple[int, ...]) -> NDArray[np.uint8]:
    height, width = picture.shape[:2]
    side = max(height, width)
    _check_room(picture, side * side)
    top, left = (side - height) // 2, (side - width) // 2
    square = np.full((side, side, 3), background, np.uint8)
    square[top : top + height, left : left + width] = picture
    return square


def _cut_tiles(
    picture: NDArray[np.uint8], view: ViewSpec, tiling: Tiling, resample: Resample
) -> NDArray[np.uint8]:
    """Return the overview, then the canvas' tiles row by row, uint8 ``(tiles, tile_px, tile_px, 3)``."""
    wanted, layout = tiling.lay_out((view.height, view.width)), tiling.lay_out(picture.shape[:2])
    if (layout.canvas, layout.covered) != (wanted.canvas, wanted.covered):
        found, graph = f"{picture.shape[1]}x{picture.shape[0]}", f"{view.width}x{view.height}"
        raise ImageError(
            f"expected a picture that is tiled as {graph} pixels are, found {found}: crop or resize it to {graph}, or "
            f"export again with --image-size {found}."
        )
    (height, width), (rows, columns), side = layout.content, layout.split, layout.tile_px
    top, left = (layout.canvas[0] - height) // 2, (layout.canvas[1] - width) // 2
    canvas = np.zeros((*layout.canvas, 3), np.uint8)
    canvas[top : top + height, left : left + width] = _resize(picture, layout.content, resample)
    tiles = canvas.reshape(rows, side, columns, side, 3).swapaxes(1, 2).reshape(-1, side, side, 3)
    return np.concatenate([_resize(picture, (side, side), resample)[None], tiles])
