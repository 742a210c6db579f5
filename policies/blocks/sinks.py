"""Attention sinks: columns that all rows attend to whatever they hold; they stand high in every ranking by attention.

Source:
    ACT (ICML 2024), "Unveiling and Harnessing Hidden Attention Sinks": sinks lie anywhere in a sequence, and are those
    columns whose mean attention exceeds a threshold; code GATECH-EIC/ACT, read at a267af7. Deviations: ACT takes
    attention away from sinks, in chosen heads; here the head mean decides, and a sink merely does not rank. ACT's
    threshold is a number in its scripts; here it is found on recorded frames, see :func:`sink_threshold`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from saccade.policies.config import require
from saccade.policies.measurements import Table
from saccade.policies.signals import Signal

SinksOption: TypeAlias = float | Literal["off", "auto"]
"""Mean attention above which a column is a sink and does not rank; ``off``: none is; ``auto``: calibration finds it."""

FENCES, LEAST = 3.0, 2.0
"""How many interquartile ranges of the logarithm a sink lies above the upper quartile, and how many times the median it
receives at least."""


def check_sinks(option: SinksOption) -> None:
    """Raise unless the option can be followed.

    Raises:
        PolicyError: A threshold that is no positive number.
    """
    positive = isinstance(option, str) or 0.0 < option < math.inf
    require(positive, "exclude_sinks", "'off', 'auto' or a mean attention above 0", option)


def sink_signals(option: SinksOption, columns: Signal) -> tuple[Signal, ...]:
    """Return what a cut asks for to know its sinks: the mean attention of each column, or nothing."""
    return () if isinstance(option, str) else (columns,)


def sink_threshold(columns: Table) -> float:
    """Return the mean attention above which a column is a sink: Tukey's far fence of its logarithm.

    With quartiles q1 and q3 of log attention over all frames and columns, ``exp(q3 + 3 (q3 - q1))``, and at least twice
    the median. Nothing need lie above it.

    Args:
        columns: Mean attention that each column received, ``(frames, columns)``; what is not positive and finite does
            not count.

    Raises:
        PolicyError: No column received any attention.
    """
    received = np.array(columns, dtype=np.float64).ravel()
    received = received[np.isfinite(received) & (received > 0.0)]
    require(received.size > 0, "exclude_sinks", "a number where no column received attention", "auto")
    lower, median, upper = np.quantile(np.log(received), (0.25, 0.5, 0.75))
    return float(max(np.exp(upper + FENCES * (upper - lower)), LEAST * np.exp(median)))


def without_sinks(scores: Tensor, columns: Sequence[Tensor], option: SinksOption) -> Tensor:
    """Rank sinks behind every other token.

    Args:
        scores: Score of each token, ``(batch, alive)``.
        columns: Mean attention of each column, ``(batch, alive)``, as :func:`sink_signals` asked for it; empty if it
            did not.
        option: The threshold.

    Returns:
        The scores, minus infinity where a column's mean attention exceeds the threshold.
    """
    if isinstance(option, str):
        return scores
    (received,) = columns
    return torch.where(received > option, -math.inf, scores)
