"""A camera that delivers the same pixels again and again is noticed, view by view."""

from __future__ import annotations

import numpy as np
import pytest

from saccade.proto.errors import FrozenCameraError
from saccade.runtime.guards.frozen_camera import FrozenCameraDetector


def seen(scene: int, wrist: int) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
    return {name: np.full((2, 3, 3), level, np.uint8) for name, level in (("scene", scene), ("wrist", wrist))}


def test_a_view_that_repeats_itself_is_named_with_its_count() -> None:
    detector = FrozenCameraDetector(2)
    detector.check(seen(1, 1))
    detector.check(seen(1, 2))
    with pytest.raises(FrozenCameraError, match=r"view 'scene': .* the same pixels 3 times in a row"):
        detector.check(seen(1, 3))
    with pytest.raises(FrozenCameraError, match="4 times in a row"):
        detector.check(seen(1, 4))
    detector.check(seen(2, 5))


def test_a_repeat_counts_only_in_a_row_and_a_reset_forgets_it() -> None:
    detector = FrozenCameraDetector(1)
    for level in (0, 1, 0, 1):
        detector.check(seen(level, 7 + level))
    detector.reset()
    detector.check(seen(1, 8))
    with pytest.raises(FrozenCameraError):
        detector.check(seen(1, 9))


def test_a_limit_of_0_never_refuses() -> None:
    detector = FrozenCameraDetector(0)
    for _ in range(50):
        detector.check(seen(1, 1))


def test_pixels_in_another_order_of_memory_are_the_same_pixels() -> None:
    detector = FrozenCameraDetector(1)
    pixels = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    detector.check({"scene": pixels})
    with pytest.raises(FrozenCameraError):
        detector.check({"scene": np.asfortranarray(pixels)})
