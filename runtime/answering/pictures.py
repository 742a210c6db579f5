"""Pictures from files. The only file of the runtime that imports Pillow; what makes them fit is in ``proto``."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION, TiffImageFile

from saccade.proto.errors import ImageError

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
