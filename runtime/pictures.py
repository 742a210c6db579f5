"""Pictures from files, made to fit a view. The only file of the runtime that imports Pillow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from saccade.proto.errors import ImageError
from saccade.proto.manifest import ViewSpec
from saccade.proto.picture_fit import FitMethod, PictureFit, Resample

_FILTERS = {
    Resample.BILINEAR: Image.Resampling.BILINEAR,
    Resample.BICUBIC: Image.Resampling.BICUBIC,
    Resample.LANCZOS: Image.Resampling.LANCZOS,
}


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Read a picture file as RGB, uint8 ``(height, width, 3)``; transparency is dropped.

    Raises:
        ImageError: There is no such file, or it is no picture that can be read whole.
    """
    if not path.is_file():
        raise ImageError(f"expected a picture, found no file at {path}.")
    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB"))
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise ImageError(f"{path.name}: expected a picture file, found: {error}.") from error


def fit_picture(picture: NDArray[np.uint8], view: ViewSpec, fit: PictureFit) -> NDArray[np.uint8]:
    """Make a picture fit a view.

    Args:
        picture: uint8 ``(height, width, 3)``, RGB, any size.
        view: What the graph takes.
        fit: How.

    Returns:
        uint8 ``(view.height, view.width, 3)``.

    Raises:
        ImageError: Not such an array, or so narrow that nothing would be left of one side.
    """
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or 0 in picture.shape:
        raise ImageError(
            f"expected a picture uint8 (height, width, 3), found {picture.dtype} {list(picture.shape)}."
        )
    image, method = Image.fromarray(picture), _FILTERS[fit.resample]
    if fit.method is FitMethod.STRETCH:
        return np.asarray(image.resize((view.width, view.height), method))
    if view.height != view.width:
        raise ImageError(f"expected a square view to crop a picture for, found {view.height} x {view.width}.")
    # The longer side is rounded down, and the rest of an odd border falls to the right and below, as in transformers.
    short, side = min(image.size), view.height
    width, height = (side if edge == short else int(side * edge / short) for edge in image.size)
    left, top = (width - side) // 2, (height - side) // 2
    resized = image.resize((width, height), method)
    return np.asarray(resized.crop((left, top, left + side, top + side)))
