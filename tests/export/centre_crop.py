"""The published centre crop, place by place: ``tf.image.crop_and_resize`` and ``convert_image_dtype`` in float32."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F = np.float32


def centre_crop(images: NDArray[np.uint8], share: float = 0.9) -> NDArray[np.uint8]:
    """Crop uint8 ``(images, side, side, 3)`` as ``center_crop_image`` of openvla-oft does, and stretch it back."""
    side = images.shape[1]
    pixels = images.astype(F) / F(255)
    kept = np.clip(np.sqrt(F(share)), F(0), F(1))
    first = (F(1) - kept) / F(2)
    scale = (first + kept - first) * F(side - 1) / F(side - 1)
    places = np.array([first * F(side - 1) + F(index) * scale for index in range(side)], F)
    low, high = np.floor(places).astype(int), np.ceil(places).astype(int)
    down, across = (places - low.astype(F))[:, None, None], (places - low.astype(F))[None, :, None]
    found = np.empty_like(pixels)
    for number, picture in enumerate(pixels):
        upper, lower = picture[low], picture[high]
        top = upper[:, low] + (upper[:, high] - upper[:, low]) * across
        bottom = lower[:, low] + (lower[:, high] - lower[:, low]) * across
        found[number] = top + (bottom - top) * down
    return (np.clip(found, F(0), F(1)) * F(255.5)).astype(np.uint8)  # a cast drops what is behind the point
