"""Notices a camera that stopped: its driver goes on delivering the same image with new times.

A real sensor never gives the same pixels twice, so a few identical images in a row mean that nobody is looking.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from saccade.proto.errors import FrozenCameraError


class FrozenCameraDetector:
    """Counts how often each view repeated itself.

    Args:
        limit: Refuse a view that repeated itself this many times in a row; 0 = never refuse.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._seen: dict[str, tuple[int, int]] = {}

    def reset(self) -> None:
        """Forget what was seen."""
        self._seen.clear()

    def check(self, images: Mapping[str, NDArray[np.uint8]]) -> None:
        """Look at one observation.

        Args:
            images: View name to uint8 ``(height, width, 3)``.

        Raises:
            FrozenCameraError: A view repeated itself too often in a row.
        """
        if not self._limit:
            return
        for view, pixels in images.items():
            checksum = zlib.crc32(np.ascontiguousarray(pixels).data)
            before, repeats = self._seen.get(view, (-1, 0))
            repeats = repeats + 1 if checksum == before else 0
            self._seen[view] = checksum, repeats
            if repeats >= self._limit:
                raise FrozenCameraError(
                    f"view {view!r}: expected a new image, found the same pixels {repeats + 1} times in a row: "
                    f"check the camera and its driver; --max-frozen-frames 0 for a scene that is not real."
                )
