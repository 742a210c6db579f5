"""Pictures fit a view exactly as the image processors of published models make them fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from saccade.proto.errors import ImageError
from saccade.proto.manifest import ViewSpec
from saccade.proto.picture_fit import FitMethod, PictureFit, Resample
from saccade.runtime.pictures import fit_picture, read_picture

VIEW = ViewSpec("image0", 28, 28)
CROP = PictureFit(FitMethod.CROP, Resample.BICUBIC)


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(28, 28), (40, 61), (61, 40), (29, 57), (9, 9), (200, 31), (333, 334)])
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
    np.testing.assert_array_equal(fit_picture(image, VIEW, CROP), expected.transpose(1, 2, 0))


@pytest.mark.parametrize("resample", Resample)
def test_stretching_is_pillows(resample: Resample) -> None:
    image = picture(33, 50)
    wanted = Image.fromarray(image).resize((20, 12), getattr(Image.Resampling, resample.name))
    found = fit_picture(image, ViewSpec("wide", 12, 20), PictureFit(FitMethod.STRETCH, resample))
    np.testing.assert_array_equal(found, np.asarray(wanted))


def test_a_file_is_read_as_rgb(tmp_path: Path) -> None:
    image = picture(5, 7)
    Image.fromarray(image).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), image)
    Image.fromarray(image[:, :, 0]).save(tmp_path / "grey.png")
    assert read_picture(tmp_path / "grey.png").shape == (5, 7, 3)


def test_what_is_no_picture_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="found no file at"):
        read_picture(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ImageError, match=r"text\.png: expected a picture file"):
        read_picture(tmp_path / "text.png")
    Image.fromarray(picture(40, 40)).save(tmp_path / "cut.png")
    whole = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageError, match=r"cut\.png: expected a picture file, found"):
        read_picture(tmp_path / "cut.png")


def test_arrays_of_another_kind_are_refused() -> None:
    for wrong in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(ImageError, match=r"expected a picture uint8 \(height, width, 3\)"):
            fit_picture(wrong, VIEW, CROP)
    with pytest.raises(ImageError, match="expected a square view to crop a picture for, found 12 x 20"):
        fit_picture(picture(30, 30), ViewSpec("wide", 12, 20), CROP)
