"""Notices a view that suddenly shows another picture: what an earlier control step saw of it is worth nothing then.

The change of a view is the mean absolute difference of its pixels from those of the last control step, as a share of
their range. Every n-th row and column is looked at, so that a large picture costs no more than a small one.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from saccade.proto.policy_spec import CameraCutSpec

_LOOKED_AT = 64
"""Rows and columns of a view that are looked at, at least, if it has so many."""


class CameraCutDetector:
    """Compares the views of each control step with those of the last one.

    Args:
        spec: Change from which it is another picture.
    """

    def __init__(self, spec: CameraCutSpec) -> None:
        self._change = spec.change
        self._last: dict[str, NDArray[np.int16]] = {}

    def reset(self) -> None:
        """Forget what was seen."""
        self._last.clear()

    def is_cut(self, images: Mapping[str, NDArray[np.uint8]]) -> bool:
        """Say whether some view shows another picture than in the last control step; False if there was none.

        Args:
            images: View name to uint8 ``(height, width, 3)``.
        """
        return any(
            view in self._last and change_between(self._last[view], _thinned(pixels)) >= self._change
            for view, pixels in images.items()
        )

    def note(self, images: Mapping[str, NDArray[np.uint8]]) -> None:
        """Take note of the views of a control step that ran.

        Args:
            images: View name to uint8 ``(height, width, 3)``.
        """
        self._last = {view: _thinned(pixels) for view, pixels in images.items()}


def change_between(before: NDArray[np.int16], now: NDArray[np.int16]) -> float:
    """Return the mean absolute difference of pixels 0 to 255, as a share of their range."""
    return float(np.abs(now - before).mean()) / 255.0


def _thinned(pixels: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Return every n-th row and column."""
    height, width = pixels.shape[:2]
    rows, columns = max(1, height // _LOOKED_AT), max(1, width // _LOOKED_AT)
    return pixels[::rows, ::columns].astype(np.int16)
