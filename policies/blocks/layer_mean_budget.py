"""A budget that is a mean over decoder layers: three nested cuts of which the first lies at the entry.

With spans L1, L2, L3 of layers behind the cuts and survival shares R1, R2, R3 of what is alive before each:

    mean = (R1 L1 + R1 R2 L2 + R1 R2 R3 L3) / L

Source:
    VFlowOpt (2508.05211), budget constraint and published settings.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from saccade.policies.blocks.budgets import interpolated
from saccade.policies.config import require

PUBLISHED = (
    (0.0, 0.0, 1.0),
    (0.10, 0.1166, 1.0),
    (0.25, 0.2651, 0.9833),
    (0.50, 0.7233, 0.7487),
    (1.0, 1.0, 1.0),
)
"""Published settings: mean share of tokens, R1, R2. The first and the last line are what the others must tend to."""


class LayerSpans(NamedTuple):
    """How many decoder layers lie behind each of the three cuts, before the next."""

    first: int
    second: int
    third: int

    @property
    def total(self) -> int:
        """Number of decoder layers."""
        return sum(self)


def resolved_ratios(
    mean: float, spans: LayerSpans, r1: float | None, r2: float | None, taper: float | None = None
) -> tuple[float, float]:
    """Return R1 and R2 that leave an R3 above 0 and at most 1.

    What is given is taken as it is; what is not given follows ``PUBLISHED``, held inside the lower half of what the
    budget permits.

    Args:
        mean: The budget as a share of all tokens, above 0 and below 1.
        spans: How many decoder layers lie behind each cut.
        r1: R1 as a multiple of ``mean``, at least 1; more than all tokens means all.
        r2: Share of the first cut's survivors that survive the second, in (0, 1].
        taper: Given instead of ``r2``: where R2 lies between the least (0) and the most (1) that the budget permits.

    Raises:
        PolicyError: No R3 meets the budget.
    """
    work = mean * spans.total
    if r1 is not None:
        first = min(1.0, r1 * mean)
    elif r2 is None:
        most = work / spans.first
        first = min(max(interpolated(PUBLISHED, mean)[0], mean), (mean + most) / 2)
    else:
        first = _first_for(mean, spans, r2)
    left = work - first * spans.first
    require(
        left > 0,
        "r1",
        f"below {spans.total / spans.first:.4g}, or null, for {spans.first} of {spans.total} layers behind the first "
        "cut",
        r1,
    )
    least, most = left / (first * (spans.second + spans.third)), left / (first * spans.second)
    if taper is not None:
        return first, least + taper * (min(most, 1.0) - least)
    if r2 is None:
        return first, min(max(interpolated(PUBLISHED, mean)[1], least), 1.0, (least + most) / 2)
    require(
        least - 1e-9 <= r2 < most,
        "r2",
        f"from {least:.4g} to {min(most, 1.0):.4g}, or null, for a mean of {mean:.4g} of the tokens over the layers "
        f"with R1 = {first:.4g} (larger r1 permits smaller r2)",
        r2,
    )
    return first, r2


def counts_for(tokens: int, keep: int, spans: LayerSpans, r1: float, r2: float) -> tuple[int, int, int]:
    """Return whole counts for the three cuts, whose mean over layers is ``keep`` as nearly as whole counts permit.

    Args:
        tokens: How many tokens there are before the first cut.
        keep: Mean number of tokens over the decoder's layers.
        spans: How many decoder layers lie behind each cut.
        r1: Share of all tokens that survives the first cut.
        r2: Share of the first cut's survivors that survives the second.
    """
    first = min(max(round(r1 * tokens), keep), tokens)
    left = keep * spans.total - first * spans.first
    least = max(1, math.ceil(left / (spans.second + spans.third)))
    most = (left - spans.third) // spans.second
    second = min(max(min(round(r2 * first), most), least), first)
    third = min(max(round((left - second * spans.second) / spans.third), 1), second)
    return first, second, third


def _first_for(mean: float, spans: LayerSpans, r2: float) -> float:
    """Return the published R1, held inside what a given R2 permits."""
    work = mean * spans.total
    least = work / (spans.first + r2 * (spans.second + spans.third))
    most = min(1.0, work / (spans.first + r2 * spans.second))
    smallest = (work - spans.first) / (spans.second + spans.third)
    require(
        least <= 1.0,
        "r2",
        f"at least {smallest:.4g}, or null, for a mean of {mean:.4g} of the tokens over the layers",
        r2,
    )
    return min(max(interpolated(PUBLISHED, mean)[0], least), (least + most) / 2)
