"""Keep ratios become named profiles, or are refused."""

from __future__ import annotations

import pytest

from saccade.export.bundle.profile_plan import plan_profiles
from saccade.proto.errors import ExportError


def test_profiles_come_largest_first() -> None:
    plans = plan_profiles((0.25, 1.0, 0.125), 16)
    assert [(plan.name, plan.ratio, plan.budget) for plan in plans] == [
        ("full", 1.0, 16), ("keep25", 0.25, 4), ("keep12.5", 0.125, 2),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("ratios", "message"),
    [
        ((0.5,), "expected 1.0 among the keep ratios"),
        ((), "expected 1.0 among the keep ratios"),
        ((1.0, 0.5, 0.5), "expected keep ratios that differ by a token of 16"),
        ((1.0, 0.25, 0.251), "expected keep ratios that differ by a token of 16"),
        ((1.0, 1.5), "expected keep ratios above 0 and at most 1, found 1.5"),
        ((1.0, 0.0), "expected keep ratios above 0 and at most 1, found 0.0"),
    ],
)
def test_what_makes_no_profiles_is_refused(ratios: tuple[float, ...], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        plan_profiles(ratios, 16)
