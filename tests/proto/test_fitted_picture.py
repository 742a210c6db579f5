"""Pictures fit a view exactly as the image processors of published models make them fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from saccade.proto.errors import ImageError, ManifestError
from saccade.proto.fitted_picture import fit_picture
from saccade.proto.manifest import ViewSpec
from saccade.proto.picture_fit import FitMethod, PictureFit, Resample
from saccade.proto.tiling import Tiling

VIEW = ViewSpec("image0", 28, 28)
SMALL = tuple((28 * rows, 28 * columns) for rows, columns in ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3)))
TILED = PictureFit(FitMethod.TILE, Resample.BICUBIC, tiling=Tiling(SMALL, 28, 4))
CROP = PictureFit(FitMethod.CROP, Resample.BICUBIC)


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(28, 28), (40, 61), (61, 40), (29, 57), (9, 9), (200, 31), (333, 334)])
@pytest.mark.reference
def test_cropping_is_that_of_clip(size: tuple[int, int]) -> None:
    """Pixel for pixel, against transformers' own processor."""
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    processor = CLIPImageProcessorPil(
        size={"shortest_edge": 28},
        crop_size={"height": 28, "width": 28},
        do_rescale=False,
        do_normalize=False,
    )
    image = picture(*size)
    expected = processor(images=Image.fromarray(image), return_tensors="np")["pixel_values"][0]
    np.testing.assert_array_equal(fit_picture(image, VIEW, CROP)[0], expected.transpose(1, 2, 0))


@pytest.mark.parametrize("resample", Resample)
def test_stretching_is_pillows(resample: Resample) -> None:
    image = picture(33, 50)
    wanted = Image.fromarray(image).resize((20, 12), getattr(Image.Resampling, resample.name))
    found = fit_picture(image, ViewSpec("wide", 12, 20), PictureFit(FitMethod.STRETCH, resample))
    np.testing.assert_array_equal(found, np.asarray(wanted)[None])


@pytest.mark.parametrize("size", [(27, 43), (270, 430), (26, 44)])
def test_a_picture_near_the_view_s_aspect_is_resized_to_what_the_graph_takes(size: tuple[int, int]) -> None:
    fit = PictureFit(FitMethod.NEAR_ASPECT, Resample.BICUBIC, size=(24, 40))
    image, view = picture(*size), ViewSpec("camera", 27, 43)
    wanted = Image.fromarray(image).resize((40, 24), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(fit_picture(image, view, fit), np.asarray(wanted)[None])
    assert fit.arrays((27, 43)) == (1, 24, 40)


@pytest.mark.parametrize("size", [(43, 27), (27, 60), (30, 40)])
def test_a_picture_of_another_aspect_is_refused_where_it_counts(size: tuple[int, int]) -> None:
    fit = PictureFit(FitMethod.NEAR_ASPECT, Resample.BICUBIC, size=(24, 40))
    asked = rf"aspect of 43x27, found {size[1]}x{size[0]}: .* --image-size {size[1]}x{size[0]}"
    with pytest.raises(ImageError, match=asked):
        fit_picture(picture(*size), ViewSpec("camera", 27, 43), fit)


@pytest.mark.parametrize("size", [(40, 61), (28, 28), (200, 90), (13, 17), (57, 57), (90, 31), (5, 9)])
@pytest.mark.reference
def test_tiles_are_those_of_llava_next(size: tuple[int, int]) -> None:
    from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

    processor = LlavaNextImageProcessorPil(
        size={"shortest_edge": 28},
        crop_size={"height": 28, "width": 28},
        image_grid_pinpoints=[list(point) for point in SMALL],
        do_normalize=False,
        do_rescale=False,
    )
    image = picture(*size)
    expected = processor.preprocess([image], return_tensors="np")["pixel_values"][0]
    tiles = fit_picture(image, ViewSpec("image0", *size), TILED)
    assert tiles.dtype == np.uint8 and tiles.shape == (len(expected), 28, 28, 3)
    np.testing.assert_array_equal(tiles, np.moveaxis(expected, 1, -1))
    assert TILED.arrays(size) == tiles.shape[:3]


@pytest.mark.parametrize("size", [(40, 61), (61, 40), (33, 33), (7, 100)])
@pytest.mark.reference
def test_squares_are_those_of_llava_onevision(size: tuple[int, int]) -> None:
    from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
        LlavaOnevisionImageProcessorPil,
    )

    views = [picture(*size), 255 - picture(*size)]
    processor = LlavaOnevisionImageProcessorPil(
        size={"height": 28, "width": 28}, image_mean=[0.5, 0.25, 0.9], do_normalize=False, do_rescale=False
    )
    expected = processor.preprocess([views], return_tensors="np")["pixel_values"][:, 0]
    fit = PictureFit(FitMethod.PAD, Resample.BICUBIC, background=(127, 63, 229))
    for image, square in zip(views, expected, strict=True):
        np.testing.assert_array_equal(fit_picture(image, VIEW, fit)[0], np.moveaxis(square, 0, -1))


def test_a_graph_of_tiles_takes_every_picture_that_is_tiled_alike() -> None:
    view = ViewSpec("image0", 40, 60)
    assert fit_picture(picture(40, 60), view, TILED).shape == fit_picture(picture(80, 120), view, TILED).shape
    message = "tiled as 60x40 pixels are, found 40x60: crop or resize it to 60x40, or export again"
    with pytest.raises(ImageError, match=message):
        fit_picture(picture(60, 40), view, TILED)
    with pytest.raises(ImageError, match="something remains on a canvas of the checkpoint, found 2000x1"):
        fit_picture(picture(1, 2000), view, TILED)


@pytest.mark.parametrize(
    "parts",
    [
        {"method": FitMethod.TILE},
        {"method": FitMethod.CROP, "tiling": Tiling(((28, 28),), 28, 4)},
        {"method": FitMethod.PAD},
        {"method": FitMethod.PAD, "background": (1, 2, 256)},
        {"method": FitMethod.STRETCH, "background": (1, 2, 3)},
        {"method": FitMethod.STRETCH, "size": (28, 28)},
        {"method": FitMethod.NEAR_ASPECT},
        {"method": FitMethod.NEAR_ASPECT, "size": (0, 28)},
    ],
)
def test_a_fit_that_lacks_something_is_refused(parts: dict[str, Any]) -> None:
    with pytest.raises(ManifestError, match="picture_fit: expected"):
        PictureFit(resample=Resample.BICUBIC, **parts)


def test_arrays_of_another_kind_are_refused() -> None:
    for wrong in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(ImageError, match=r"expected a picture uint8 \(height, width, 3\)"):
            fit_picture(wrong, VIEW, CROP)
    with pytest.raises(ImageError, match="expected a square view to crop a picture for, found 12 x 20"):
        fit_picture(picture(30, 30), ViewSpec("wide", 12, 20), CROP)


@pytest.mark.parametrize("method", [FitMethod.CROP, FitMethod.PAD])
def test_a_picture_that_would_fill_the_memory_on_its_way_is_refused(method: FitMethod) -> None:
    fit = PictureFit(method, Resample.BICUBIC, background=(1, 2, 3) if method is FitMethod.PAD else ())
    with pytest.raises(ImageError, match=r"found 1x40000, which becomes [0-9]+: crop it"):
        fit_picture(picture(40000, 1), ViewSpec("camera", 336, 336), fit)
