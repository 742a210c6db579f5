"""Another clock, measured through a network that delays as it likes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saccade.runtime.clock_offset import ClockOffset

MS = 1_000_000
SECOND = 1000 * MS


def exchange(
    clock: ClockOffset, now_ns: int, *, offset_ns: int, there_ns: int, back_ns: int, busy_ns: int = 30 * MS
) -> bool:
    """One round trip that begins at ``now_ns``."""
    arrived_ns = now_ns + there_ns + offset_ns
    return clock.add(
        sent_ns=now_ns,
        arrived_ns=arrived_ns,
        replied_ns=arrived_ns + busy_ns,
        received_ns=now_ns + there_ns + busy_ns + back_ns,
    )


@given(
    st.integers(-(10**15), 10**15),
    st.lists(st.tuples(st.integers(0, 300 * MS), st.integers(0, 300 * MS)), min_size=1, max_size=20),
)
def test_the_truth_is_within_the_uncertainty_whatever_the_delays(
    offset_ns: int, delays: list[tuple[int, int]]
) -> None:
    clock, now_ns = ClockOffset(), 10**12
    for there_ns, back_ns in delays:
        assert not exchange(clock, now_ns, offset_ns=offset_ns, there_ns=there_ns, back_ns=back_ns)
        now_ns += SECOND
    found = clock.estimate(now_ns)
    assert found is not None and found.steps == 0
    assert abs(found.offset_ns - offset_ns) <= found.uncertainty_ns
    assert (
        found.uncertainty_ns
        <= min(there + back for there, back in delays) / 2 + 1 + 500e-6 * (len(delays) + 1) * SECOND
    )


def test_drift_is_told_after_half_a_minute() -> None:
    clock, random = ClockOffset(), np.random.default_rng(0)
    for index in range(1000):
        now_ns = index * SECOND // 10
        drifted_ns = 7 * SECOND + now_ns * 80 // 1_000_000
        there_ns, back_ns = (int(each) for each in random.exponential(3 * MS, 2))
        exchange(clock, now_ns, offset_ns=drifted_ns, there_ns=there_ns, back_ns=back_ns)
        found = clock.estimate(now_ns)
        assert found is not None
        if index < 250:
            assert found.drift_ppm == 0
    assert found.drift_ppm == pytest.approx(80, abs=15) and found.steps == 0
    assert abs(found.offset_ns - drifted_ns) <= found.uncertainty_ns


def test_a_jump_of_a_clock_is_noticed_and_measured_anew() -> None:
    clock = ClockOffset()
    for index in range(50):
        exchange(clock, index * SECOND, offset_ns=0, there_ns=MS, back_ns=2 * MS)
    for jumps, offset_ns in enumerate((3600 * SECOND, -SECOND, 10 * SECOND + 100 * MS), 1):
        assert exchange(clock, (50 + jumps) * SECOND, offset_ns=offset_ns, there_ns=MS, back_ns=2 * MS)
        found = clock.estimate((51 + jumps) * SECOND)
        assert found is not None and found.steps == jumps
        assert abs(found.offset_ns - offset_ns) <= found.uncertainty_ns


def test_an_other_side_that_slept_while_it_answered_is_a_jump_too() -> None:
    clock = ClockOffset()
    exchange(clock, 0, offset_ns=0, there_ns=MS, back_ns=MS)
    assert clock.add(sent_ns=0, arrived_ns=MS, replied_ns=90 * SECOND, received_ns=SECOND)
    assert clock.estimate(SECOND) is None
