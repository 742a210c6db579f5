"""Pictures as the evaluation scripts of OpenVLA and OpenVLA-OFT bring them to the towers: stretched, then cropped.

Source:
    openvla/openvla c8f03f4 and moojink/openvla-oft 213c5ff, ``experiments/robot/openvla_utils.py``; TensorFlow's
    ``tf.image.resize`` (lanczos3, antialiased), ``crop_and_resize`` and ``convert_image_dtype``, written down again in
    NumPy. Deviation: OFT's detour through JPEG is left out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

F = np.float32
_LOBES = 3


def stretch(images: NDArray[np.uint8], side: int, *, as_oft: bool) -> NDArray[np.uint8]:
    """Bring uint8 ``(pictures, height, width, 3)`` to squares ``(pictures, side, side, 3)``.

    Args:
        images: The pictures.
        side: Side of the squares, pixels.
        as_oft: Lanczos, as OpenVLA-OFT's evaluation; else Pillow's bicubic, as OpenVLA's processor.
    """
    if images.shape[1:3] == (side, side):
        return images
    if not as_oft:
        resized = [
            Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC) for picture in images
        ]
        return np.stack([np.asarray(picture) for picture in resized])
    down, across = (_lanczos(length, side) for length in images.shape[1:3])
    found = np.einsum("ay,pyxc,bx->pabc", down, images.astype(np.float64), across)
    return np.clip(np.rint(found), 0, 255).astype(np.uint8)


def crop_centre(images: NDArray[np.uint8], share: float) -> NDArray[np.uint8]:
    """Look at the middle of squares, uint8 ``(pictures, side, side, 3)``, stretched back.

    Args:
        images: The squares.
        share: Share of the area that stays; 1 = all.
    """
    if share >= 1:
        return images
    side, kept = images.shape[1], np.sqrt(F(share))
    first = (F(1) - kept) / F(2)
    places = first * F(side - 1) + np.arange(side, dtype=F) * (first + kept - first)
    low, high = np.floor(places).astype(int), np.ceil(places).astype(int)
    part = (places - low.astype(F)).astype(F)
    pixels = images.astype(F) / F(255)
    across = pixels[:, :, low] + (pixels[:, :, high] - pixels[:, :, low]) * part[:, None]
    found = across[:, low] + (across[:, high] - across[:, low]) * part[:, None, None]
    return (np.clip(found, F(0), F(1)) * F(255.5)).astype(np.uint8)  # a cast drops what is behind the point


def _lanczos(length: int, side: int) -> NDArray[np.float64]:
    """Return what each of ``side`` places takes of each of ``length``; each row adds up to one."""
    scale = length / side
    wide = max(scale, 1.0)
    centres = (np.arange(side)[:, None] + 0.5) * scale
    away = (np.arange(length)[None, :] + 0.5 - centres) / wide
    weights = np.where(np.abs(away) < _LOBES, np.sinc(away) * np.sinc(away / _LOBES), 0.0)
    found: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
    return found
