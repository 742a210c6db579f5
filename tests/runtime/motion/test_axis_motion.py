import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saccade.runtime.motion.axis_motion import AxisMotion
from saccade.runtime.motion.tight_limits import TightLimits
from tests.runtime.motion.limits_samples import limits_of

MIN_S = 0.005
STILL = (np.zeros(1), np.zeros(1))
TIGHT = TightLimits(limits_of(1), MIN_S, 0.03)


def run(pulls: list[float], steps: list[float]) -> tuple[AxisMotion, float]:
    """Go as far as is free towards each pull, or along the curve."""
    motion, place = AxisMotion(TIGHT, MIN_S), 0.0
    for pull, step in zip(pulls, steps, strict=False):
        motion.set_step(step, TIGHT.low - place, TIGHT.high - place)
        way = motion.nearest(np.array([pull - place]), STILL)
        on_curve = ~motion.fits(way)
        way = np.where(on_curve, motion.planned(), way)
        motion.adopt(way, on_curve, np.array([False]))
        place += float(way[0])
    return motion, place


PULLS = st.lists(st.floats(-2, 2), min_size=5, max_size=20)
STEPS = st.lists(st.sampled_from([0.005, 0.01, 0.03, 0.4, 5.0]), min_size=40, max_size=40)


@settings(max_examples=30)
@given(PULLS, STEPS)
def test_from_wherever_it_was_pulled_it_stops_within_its_positions(
    pulls: list[float], steps: list[float]
) -> None:
    motion, place = run(pulls, steps)
    assert -1 - 1e-9 <= place <= 1 + 1e-9
    ways = []
    for _ in range(3):
        motion.set_step(10.0, TIGHT.low - place, TIGHT.high - place)
        ways.append(float(motion.planned()[0]))
        motion.adopt(np.array(ways[-1:]), np.array([True]), np.array([False]))
        place += ways[-1]
    assert -1 - 1e-9 <= place <= 1 + 1e-9
    assert abs(ways[2]) < 1e-9


def test_the_nearest_way_is_the_farthest_that_is_free() -> None:
    motion, place = run([2.0] * 30, [0.01] * 40)
    motion.set_step(0.01, TIGHT.low - place, TIGHT.high - place)
    way = motion.nearest(np.array([2.0]), STILL)
    assert motion.fits(way)[0]
    assert not motion.fits(way + 1e-5)[0]
    inside = way - 1e-6
    assert motion.nearest(inside, (inside / 0.01, np.zeros(1)))[0] == pytest.approx(inside[0], abs=1e-6)
    assert way[0] / 0.01 > 0.9 * 1.0  # 30 steps suffice for the full speed


def test_at_rest_it_may_stay_and_not_jump() -> None:
    motion = AxisMotion(TIGHT, MIN_S)
    motion.set_step(0.01, TIGHT.low, TIGHT.high)
    assert motion.fits(np.array([0.0]))[0] and not motion.fits(np.array([0.01]))[0]
