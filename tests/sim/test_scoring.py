"""Scores against known values and wild inputs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saccade.sim.closed_loop import Episode
from saccade.sim.course import ControlStep
from saccade.sim.scoring import SuccessRate, quantile_ns, score, step_latencies_ns


@pytest.mark.parametrize(
    ("successes", "episodes", "low", "high"),
    [  # Newcombe (1998), Statistics in Medicine 17, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (29, 29, 0.8830, 1.0),
    ],
)
def test_wilson_interval(successes: int, episodes: int, low: float, high: float) -> None:
    assert SuccessRate(successes, episodes).interval == pytest.approx((low, high), abs=5e-5)


def test_no_episodes_say_nothing() -> None:
    assert SuccessRate(0, 0).rate == 0
    assert SuccessRate(0, 0).interval == (0, 1)


@given(st.integers(1, 1000).flatmap(lambda count: st.tuples(st.integers(0, count), st.just(count))))
def test_the_interval_holds_the_rate(counts: tuple[int, int]) -> None:
    rate = SuccessRate(*counts)
    low, high = rate.interval
    assert 0 <= low <= rate.rate <= high <= 1


@given(st.lists(st.integers(0, 10**12), min_size=1), st.floats(0.01, 1))
def test_a_quantile_is_a_measured_value_that_covers_its_share(latencies: list[int], fraction: float) -> None:
    quantile = quantile_ns(latencies, fraction)
    assert quantile in latencies
    assert sum(value <= quantile for value in latencies) >= fraction * len(latencies) * (1 - 1e-9)


def test_quantile_of_nothing() -> None:
    assert quantile_ns([], 0.99) == 0


def step(latency_ns: int, profile: str, *, clamped: int = 0, is_refused: bool = False) -> ControlStep:
    return ControlStep(latency_ns, profile, clamped, is_refused, {})


def test_every_step_counts_warm_up_and_refusals_among_them() -> None:
    episode = Episode(
        "reach",
        0,
        "keep25",
        "touch the red block",
        True,
        True,
        9,
        (step(90, "full"), step(10, "keep25", clamped=2), step(20, "keep25", clamped=1)),
    )
    refused = Episode("reach", 1, "keep25", "touch it", False, False, 160, (step(70, "", is_refused=True),))
    row = score("reach", "keep25", [episode, refused], {"full": 200, "keep25": 50})
    assert step_latencies_ns([episode, refused]) == [90, 10, 20, 70]
    assert (row.p50_ns, row.p99_ns, row.visual_tokens) == (20, 90, 100)
    assert (row.success.successes, row.success.episodes) == (1, 2)
    assert (row.control_steps, row.full_steps, row.clamped, row.refused) == (4, 1, 3, 1)
