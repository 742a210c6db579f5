"""The camera cut against histograms in loops; what it overlooks, and what it forgets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from saccade.proto.policy_spec import CameraCutSpec
from saccade.runtime.guards.camera_cut import CameraCutDetector, colour_change, colours


def views(*levels: int, side: int = 8) -> dict[str, NDArray[np.uint8]]:
    return {f"view{n}": np.full((side, side, 3), level, np.uint8) for n, level in enumerate(levels)}


def by_counting(before: NDArray[np.uint8], now: NDArray[np.uint8]) -> float:
    """Pixels that find no pixel of their colour in the other picture, as a share."""
    left = [tuple(int(level) // 64 for level in pixel) for pixel in before.reshape(-1, 3)]
    alone = 0
    for pixel in now.reshape(-1, 3):
        colour = tuple(int(level) // 64 for level in pixel)
        if colour in left:
            left.remove(colour)
        else:
            alone += 1
    return alone / (now.size // 3)


@given(seed=st.integers(0, 1000), spread=st.integers(1, 256))
def test_the_change_is_that_of_the_colours(seed: int, spread: int) -> None:
    rng = np.random.default_rng(seed)
    before, now = (rng.integers(0, spread, (9, 7, 3)).astype(np.uint8) for _ in range(2))
    assert colour_change(colours(before), colours(now)) == pytest.approx(by_counting(before, now))


def test_what_only_moves_is_no_cut_and_another_light_is_one() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (300, 200, 3)).astype(np.uint8)
    picture[100:, :] = 70
    detector = CameraCutDetector(CameraCutSpec(0.3))
    detector.note({"scene": picture})
    assert not detector.is_cut({"scene": np.roll(picture, 60, axis=0)})
    assert detector.is_cut({"scene": picture // 2})
    assert detector.is_cut({"scene": np.zeros_like(picture)})


def test_one_view_is_enough_and_nothing_before_is_no_cut() -> None:
    detector = CameraCutDetector(CameraCutSpec(1.0))
    assert not detector.is_cut(views(0, 0))
    detector.note(views(0, 0))
    assert detector.is_cut(views(0, 200))
    assert not detector.is_cut(views(63, 63))
    detector.reset()
    assert not detector.is_cut(views(0, 200))
