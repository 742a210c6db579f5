"""A budget that is a mean over layers: given ratios meet it or are refused, those left out give way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from saccade.policies.base import Grid, ModelShape
from saccade.policies.blocks.budgets import layer_mean
from saccade.policies.blocks.layer_mean_budget import LayerSpans, counts_for, resolved_ratios
from saccade.policies.methods.vflowopt import VFlowOpt
from saccade.policies.registry import build_policy
from saccade.policies.testing.dry_run import SHAPE
from saccade.proto.errors import PolicyError

DEEP = replace(SHAPE, layers=28, grid=Grid(1, 27, 27))


def vflowopt(shape: ModelShape, **options: object) -> VFlowOpt:
    policy = build_policy("vflowopt", options, shape)
    assert isinstance(policy, VFlowOpt)
    return policy


@given(
    layers=st.integers(3, 40),
    tokens=st.sampled_from([8, 40, 200, 729, 1024]),
    data=st.data(),
)
def test_the_mean_over_layers_is_the_budget(layers: int, tokens: int, data: st.DataObject) -> None:
    keep = data.draw(st.integers(1, tokens - 1))
    first = data.draw(st.integers(1, layers - 2))
    second = data.draw(st.integers(first + 1, layers - 1))
    shape = replace(SHAPE, layers=layers, grid=Grid(1, tokens // 8, 8))
    for cuts in (None, [first, second]):
        policy = vflowopt(shape, layers=cuts)
        counts = policy.schedule(keep)
        at = [cut.index for cut in policy.cuts]
        spans = LayerSpans(at[1], at[2] - at[1], layers - at[2])
        assert tokens >= counts[0] >= counts[1] >= counts[2] >= 1
        # Half a token behind the last cut, or, where that one is at its limit, one behind the second.
        slack = max(0.5 * spans.third, spans.second + spans.third)
        assert abs(layer_mean(tokens, at, counts, layers) - keep) * layers <= slack


@given(ratio=st.floats(0.02, 0.98), r1=st.floats(1, 3), r2=st.floats(0.05, 1), data=st.data())
def test_given_ratios_meet_the_budget_or_are_refused(
    ratio: float, r1: float, r2: float, data: st.DataObject
) -> None:
    spans = LayerSpans(*(data.draw(st.integers(1, 12)) for _ in range(3)))
    first = min(1.0, r1 * ratio)
    third = (ratio * spans.total - first * spans.first - first * r2 * spans.second) / (
        first * r2 * spans.third
    )
    assume(abs(third) > 1e-6 and abs(third - 1) > 1e-6)
    if 0 < third < 1:
        assert resolved_ratios(ratio, spans, r1, r2) == pytest.approx((first, r2))
        tokens = 100_000
        counts = counts_for(tokens, round(ratio * tokens), spans, first, r2)
        assert np.array(counts) / tokens == pytest.approx((first, first * r2, first * r2 * third), abs=1e-3)
    else:
        with pytest.raises(PolicyError, match=r"option 'r[12]' must be"):
            resolved_ratios(ratio, spans, r1, r2)


@given(ratio=st.floats(0.02, 0.98), r1=st.floats(1, 2), r2=st.floats(0.3, 1), data=st.data())
def test_what_is_left_out_gives_way_to_what_is_given(
    ratio: float, r1: float, r2: float, data: st.DataObject
) -> None:
    spans = LayerSpans(*(data.draw(st.integers(1, 12)) for _ in range(3)))
    for given_r1, given_r2 in ((None, None), (r1, None), (None, r2)):
        try:
            first, second = resolved_ratios(ratio, spans, given_r1, given_r2)
        except PolicyError:
            if given_r1 is not None:  # even the least work behind the first cut is too much
                assert min(1, r1 * ratio) * spans.first >= ratio * spans.total * (1 - 1e-9)
            else:  # even keeping all at the first cut is too little
                assert given_r2 is not None
                assert spans.first + r2 * (spans.second + spans.third) <= ratio * spans.total * (1 + 1e-9)
            continue
        assert given_r1 is None or first == min(1.0, r1 * ratio)
        assert given_r2 is None or second == r2
        third = (ratio * spans.total - first * spans.first - first * second * spans.second) / (
            first * second * spans.third
        )
        assert ratio - 1e-9 <= first <= 1 and 0 < second <= 1 and 0 < third <= 1 + 1e-6


@given(ratio=st.floats(0.02, 0.98), r1=st.floats(1, 1.5), taper=st.floats(0, 1), tokens=st.integers(60, 2000))
def test_every_taper_meets_the_budget(ratio: float, r1: float, taper: float, tokens: int) -> None:
    spans, keep = LayerSpans(10, 10, 12), round(ratio * tokens)
    first, second = resolved_ratios(keep / tokens, spans, r1, None, taper)
    third = (keep / tokens * spans.total - first * spans.first - first * second * spans.second) / (
        first * second * spans.third
    )
    assert -1e-9 <= third <= 1 + 1e-9 and 0 < second <= 1 + 1e-9
    ends = [resolved_ratios(keep / tokens, spans, r1, None, end)[1] for end in (0.0, 1.0)]
    assert second == pytest.approx(ends[0] + taper * (ends[1] - ends[0]))
    counts = counts_for(tokens, keep, spans, first, second)
    mean = sum(span * count for span, count in zip(spans, counts, strict=True)) / spans.total
    assert mean == pytest.approx(keep, abs=0.5)
    assert tokens >= counts[0] >= counts[1] >= counts[2] >= 1


@pytest.mark.parametrize(
    ("options", "keep", "message"),
    [
        (
            {"r1": 3.5},
            182,
            r"'r1' must be below 3\.111, or null, for 9 of 28 layers behind the first cut, found 3\.5",
        ),
        (
            {"r1": 1.0, "r2": 0.5},
            182,
            r"'r2' must be from 1 to 1, or null, for a mean of 0\.2497 .* found 0\.5",
        ),
        (
            {"r1": 1.5, "r2": 0.3},
            182,
            r"'r2' must be from 0\.5088 to 1, or null.*larger r1 permits smaller r2.*0\.3",
        ),
        ({"r2": 0.4}, 600, r"'r2' must be at least 0\.7392, or null, for a mean of 0\.823"),
    ],
)
def test_an_impossible_budget_says_the_way_out(options: dict[str, float], keep: int, message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        vflowopt(DEEP, **options).schedule(keep)


def test_the_way_out_works() -> None:
    assert vflowopt(DEEP, r1=1.5, r2=0.51).schedule(182) == (273, 139, 139)
    assert vflowopt(DEEP, r2=0.74).schedule(600)[0] <= 729
    assert vflowopt(DEEP, r1=1.0).schedule(182) == (182, 182, 182)
