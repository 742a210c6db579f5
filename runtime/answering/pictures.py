"""Pictures from files, made to fit a view. The only file of the runtime that imports Pillow."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION, TiffImageFile

from saccade.proto.errors import ImageError
from saccade.proto.manifest import ViewSpec
from saccade.proto.picture_fit import FitMethod, PictureFit, Resample
from saccade.proto.tiling import Size, Tiling

_FILTERS = {
    Resample.BILINEAR: Image.Resampling.BILINEAR,
    Resample.BICUBIC: Image.Resampling.BICUBIC,
    Resample.LANCZOS: Image.Resampling.LANCZOS,
}

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns a picture upright, by the orientation that its EXIF data says; 1 is upright."""
_SIXTEEN_BITS_AS_I = ("PNG", "PPM")
"""Formats whose integers are 16 bits wide where Pillow has them in 32."""
_WHITE_IS_ZERO = 0

_MOST_STRETCHED = 1.1
"""Largest ratio of a picture's aspect to the view's where a picture of near aspect is expected."""
_MOST_PIXELS = 2**26
"""Largest picture on its way into a view, some 400 MB with the copy: a photograph of 8000x6000 padded to a square fits.
"""


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Read a picture file as ``transformers.image_utils.load_image`` reads it: upright, its first frame, as RGB.

    The orientation in the EXIF data is applied; transparency is dropped, which shows the colour beneath it; CMYK and
    palettes become RGB as in Pillow. Deviation: of 16 bits the upper eight are taken, in greyscale as in colour, where
    the reference makes every grey above 255 white; and what has no known white, 32-bit integers and floats, is refused.

    Args:
        path: A file of any format that Pillow reads; its content counts, not its extension.

    Returns:
        The picture, uint8 ``(height, width, 3)``.

    Raises:
        ImageError: There is no such file, it is no picture that can be read whole, or its pixels have no known white.
    """
    try:
        if not path.is_file():
            raise ImageError(f"expected a picture, found no file at {path}.")
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # the reference reads what Pillow warns of, so that is what is shown
            with Image.open(file) as picture:
                return _upright_rgb(picture, path.name)
    except ImageError:
        raise
    except Exception as error:  # a decoder raises whatever it stumbles over
        raise ImageError(
            f"{path.name}: expected a picture file, found: {_reason(error)}. Is it damaged, cut off or no picture?"
        ) from error


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "no format that is known"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).rstrip(".") or type(error).__name__


def _upright_rgb(picture: Image.Image, name: str) -> NDArray[np.uint8]:
    """Decode the first frame; a TIFF turns itself upright as it is loaded, and then says so."""
    picture.load()
    turn = _UPRIGHT.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    rgb = _eight_bits(picture, name).convert("RGB")
    pixels = np.asarray(rgb if turn is None else rgb.transpose(turn))
    if not pixels.size:
        raise ImageError(f"{name}: expected a picture with pixels, found {rgb.width}x{rgb.height}.")
    return pixels


def _eight_bits(picture: Image.Image, name: str) -> Image.Image:
    """Return a picture whose values have 8 bits: the upper ones, where there are 16 of them."""
    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format in _SIXTEEN_BITS_AS_I):
        values, bits = np.asarray(picture).astype(np.uint16), 16
        if isinstance(picture, TiffImageFile):
            bits = picture.tag_v2.get(BITSPERSAMPLE, (bits,))[0]
            if picture.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == _WHITE_IS_ZERO:
                values = ~values
        return Image.fromarray((values >> bits - 8).astype(np.uint8))
    if picture.mode in ("I", "F"):
        kind = "integers" if picture.mode == "I" else "floats"
        raise ImageError(
            f"{name}: expected a picture of 8 or 16 bits, found 32-bit {kind}, of which nobody knows which is white: "
            "convert it to 8 bits."
        )
    return picture


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
