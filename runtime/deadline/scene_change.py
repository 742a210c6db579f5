"""Does more change in the views than a moment ago? Then there is something new to look at.

The change of a view is the share of its pixels that differ visibly from those of the last control step. The arm itself
moves all the time, so a change means something only beside those before it: a step is *new* where a view changes much
more than the median of its last few changes. There is no threshold in pixels to be set for a camera or a table.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from statistics import median

import numpy as np
from numpy.typing import NDArray

_LOOKED_AT = 64
"""Rows and columns of a view that are looked at, at most."""
_VISIBLE = 24
"""Difference of a pixel's brightness from which it has changed, of 255: above the noise of cameras."""
_REMEMBERED = 16
_MUCH_MORE = 2.0
_LEAST = 0.02
"""Share of pixels below which nothing is new, however still it was before."""


class SceneChange:
    """Compares the views of each control step with those of the last one."""

    def __init__(self) -> None:
        self._last: dict[str, NDArray[np.int16]] = {}
        self._changes: dict[str, deque[float]] = {}

    def reset(self) -> None:
        """Forget what was seen."""
        self._last.clear()
        self._changes.clear()

    def is_new(self, images: Mapping[str, NDArray[np.uint8]]) -> bool:
        """Look at the views of a control step, and say whether one changed much more than it did lately.

        Args:
            images: View name to uint8 ``(height, width, 3)``.
        """
        return max((self._is_new(view, pixels) for view, pixels in images.items()), default=False)

    def _is_new(self, view: str, pixels: NDArray[np.uint8]) -> bool:
        now = _brightness(pixels)
        before, self._last[view] = self._last.get(view), now
        if before is None or before.shape != now.shape:
            return False
        change = float(np.mean(np.abs(now - before) >= _VISIBLE))
        changes = self._changes.setdefault(view, deque(maxlen=_REMEMBERED))
        usual = median(changes) if changes else change
        changes.append(change)
        return change >= max(_LEAST, _MUCH_MORE * usual)


def _brightness(pixels: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Return the green channel, most of what is seen of brightness, of every n-th pixel, int16 ``(rows, columns)``."""
    height, width = pixels.shape[:2]
    return pixels[:: -(-height // _LOOKED_AT), :: -(-width // _LOOKED_AT), 1].astype(np.int16)
