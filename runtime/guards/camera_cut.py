"""Notices a view that suddenly shows another picture: what an earlier control step saw of it is worth nothing then.

The change of a view is how much of its colours is not those of the last control step: half the sum of the absolute
differences between the two histograms of colours, four levels to a channel, so 0 to 1. Where things are does not
count, so that an arm or a wrist camera on its way changes little, and another camera, another light or no light much;
another picture of the same colours is not noticed. Every n-th row and column is looked at.

Source:
    Histograms of colours as in the detection of shot boundaries in films.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from saccade.proto.policy_spec import CameraCutSpec

_LOOKED_AT = 64
"""Rows and columns of a view that are looked at, at least, if it has so many."""
_LEVELS = 4
"""Levels of a channel that are told apart."""


class CameraCutDetector:
    """Compares the views of each control step with those of the last one.

    Args:
        spec: Change from which it is another picture.
    """

    def __init__(self, spec: CameraCutSpec) -> None:
        self._change = spec.change
        self._last: dict[str, NDArray[np.float64]] = {}

    def reset(self) -> None:
        """Forget what was seen."""
        self._last.clear()

    def is_cut(self, images: Mapping[str, NDArray[np.uint8]]) -> bool:
        """Say whether some view shows another picture than in the last control step; False if there was none.

        Args:
            images: View name to uint8 ``(height, width, 3)``.
        """
        return any(
            view in self._last and colour_change(self._last[view], colours(pixels)) >= self._change
            for view, pixels in images.items()
        )

    def note(self, images: Mapping[str, NDArray[np.uint8]]) -> None:
        """Take note of the views of a control step that ran.

        Args:
            images: View name to uint8 ``(height, width, 3)``.
        """
        self._last = {view: colours(pixels) for view, pixels in images.items()}


def colours(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the share of pixels of each colour, float64 ``(64,)``.

    Args:
        pixels: uint8 ``(height, width, 3)``.
    """
    height, width = pixels.shape[:2]
    rows, columns = max(1, height // _LOOKED_AT), max(1, width // _LOOKED_AT)
    level = pixels[::rows, ::columns].reshape(-1, 3).astype(np.int64) * _LEVELS // 256
    colour = (level[:, 0] * _LEVELS + level[:, 1]) * _LEVELS + level[:, 2]
    return np.bincount(colour, minlength=_LEVELS**3) / len(colour)


def colour_change(before: NDArray[np.float64], now: NDArray[np.float64]) -> float:
    """Return half the sum of absolute differences between two histograms, 0 to 1."""
    return float(np.abs(now - before).sum()) / 2.0
