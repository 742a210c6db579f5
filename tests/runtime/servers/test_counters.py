import pytest
from hypothesis import given
from hypothesis import strategies as st

from saccade.runtime.servers.counters import Counters, LatencyHistogram


@given(st.lists(st.integers(1, 2**39), min_size=1, max_size=50), st.floats(0.01, 1))
def test_a_quantile_is_right_to_one_bucket(durations_ns: list[int], fraction: float) -> None:
    histogram = LatencyHistogram()
    for duration_ns in durations_ns:
        histogram.record(duration_ns)
    rank = max(1, -int(-fraction * len(durations_ns) // 1))
    exact = sorted(durations_ns)[rank - 1]
    assert exact <= histogram.quantile_ns(fraction) <= exact * 1.125 + 2


@pytest.mark.parametrize("duration_ns", [0, -5, 1 << 60])
def test_absurd_durations_do_not_fall_out(duration_ns: int) -> None:
    histogram = LatencyHistogram()
    histogram.record(duration_ns)
    assert histogram.count == 1
    assert histogram.quantile_ns(0.5) > 0


def test_nothing_recorded_is_zero() -> None:
    assert LatencyHistogram().quantile_ns(0.5) == 0


def test_the_snapshot_has_counters_and_quantiles() -> None:
    counters = Counters()
    counters.count("chunks")
    counters.count("clamped", 3)
    counters.time("total", 1000)
    assert counters.snapshot() == {"chunks": 1, "clamped": 3, "total.p50_ns": 1024, "total.p99_ns": 1024}
