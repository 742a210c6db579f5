import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saccade.runtime.motion.stop_curve import StopCurve
from tests.runtime.motion.divided_differences import difference


def curve(*numbers: float) -> StopCurve:
    return StopCurve(*(np.array([number], np.float64) for number in numbers))


@given(
    v=st.integers(-3000, 3000).map(lambda number: number / 1e3),
    share=st.integers(-100, 100).map(lambda number: number / 1e2),
    a_max=st.floats(0.1, 20),
    jerk=st.floats(0.5, 500) | st.just(np.inf),
)
def test_it_begins_as_told_keeps_the_limits_and_ends_at_a_standstill(
    v: float, share: float, a_max: float, jerk: float
) -> None:
    a = 0.0 if np.isinf(jerk) else share * a_max
    stop = curve(v, a, a_max, jerk)
    end = float(stop.duration_s[0])
    if end == 0:
        assert v == a == 0
        return
    h = end / 400
    places = stop.place(np.arange(420) * h)
    steps = np.full(419, h)
    scale = 1e-13 * (1 + np.abs(places).max())
    first, second, third = (difference(order, places, steps) for order in (1, 2, 3))
    assert abs(first[0] - v) <= a_max * h + scale / h
    assert np.abs(second).max() <= a_max * (1 + 1e-9) + scale / h**2
    if np.isfinite(jerk):
        assert abs(second[0] - a) <= jerk * h + scale / h**2
        assert np.abs(third).max() <= jerk * (1 + 1e-9) + scale / h**3
    assert np.ptp(places[400:]) <= scale
    (low, high), (slow, fast) = stop.extent(), stop.speeds()
    assert low[0] - scale <= places.min() <= places.max() <= high[0] + scale
    assert slow[0] - scale / h <= first.min() <= first.max() <= fast[0] + scale / h
    assert places.max() >= high[0] - np.abs([slow[0], fast[0]]).max() * h - scale
    assert places.min() <= low[0] + np.abs([slow[0], fast[0]]).max() * h + scale


@pytest.mark.parametrize(
    ("v", "a_max", "jerk"), [(1.0, 2.0, 50.0), (-1.0, 2.0, 50.0), (1.0, 2.0, np.inf), (0.01, 9.0, 5.0)]
)
def test_stopping_distances_are_those_of_the_textbook(v: float, a_max: float, jerk: float) -> None:
    """Half the speed for v / A + A / J seconds where the largest deceleration is reached, else for 2 sqrt(v / J)."""
    speed = abs(v)
    seconds = speed / a_max + a_max / jerk if speed * jerk >= a_max**2 else 2 * np.sqrt(speed / jerk)
    stop = curve(v, 0.0, a_max, jerk)
    np.testing.assert_allclose(stop.duration_s, [seconds])
    np.testing.assert_allclose(stop.place(99.0), [v * seconds / 2])


def test_axes_of_two_curves_are_put_together() -> None:
    fast, slow = (StopCurve(np.full(2, v), np.zeros(2), np.ones(2), np.full(2, np.inf)) for v in (2.0, 1.0))
    np.testing.assert_allclose(fast.where(np.array([True, False]), slow).place(9.0), [2, 0.5])
