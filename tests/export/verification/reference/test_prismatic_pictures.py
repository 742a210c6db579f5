"""The published picture steps, against Pillow and against the same arithmetic place by place."""

from __future__ import annotations

import numpy as np
from PIL import Image

from saccade.export.verification.reference.prismatic_pictures import crop_centre, stretch
from tests.export.centre_crop import centre_crop
from tests.export.families.published import pictures


def test_the_crop_is_the_published_one() -> None:
    images = pictures(2, 30, 30)
    np.testing.assert_array_equal(crop_centre(images, 0.9), centre_crop(images))
    assert crop_centre(images, 1.0) is images


def test_lanczos_is_pillow_s_up_to_rounding_and_bicubic_is_pillow_s() -> None:
    images = pictures(1, 40, 60) // 4 + 96  # Pillow cuts off what overshoots on the way
    for as_oft, resample, most in ((True, Image.Resampling.LANCZOS, 1), (False, Image.Resampling.BICUBIC, 0)):
        wanted = np.asarray(Image.fromarray(images[0]).resize((28, 28), resample))
        found = stretch(images, 28, as_oft=as_oft)[0]
        assert np.abs(found.astype(int) - wanted).max() <= most
    assert stretch(images[:, :28, :28], 28, as_oft=True).shape == (1, 28, 28, 3)
