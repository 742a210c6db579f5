"""Times many ways in turn, and makes figures of it: A B C, C B A, A B C ..., so that slow minutes slow all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np

from benchmarks.results_file import latency_summary
from saccade.proto.accounting import Account
from saccade.proto.devices import FP32, Device
from saccade.proto.profile_names import FULL_PROFILE
from saccade.proto.roofline import PRECISIONS, bounds, part_bytes

Key = tuple[str, str]
"""Profile and way."""
TARGET = 1.15
"""What a profile may take at most, times what its MACs predict from the full step of the same way."""
K = TypeVar("K")


@dataclass
class Turns(Generic[K]):
    """How long each counted step took.

    Args:
        rounds: Nanoseconds of each counted step, for each round, by what was run.
    """

    rounds: dict[K, list[list[int]]] = field(default_factory=dict)

    def all_ns(self, key: K) -> list[int]:
        """Return every counted step of one, nanoseconds."""
        return [duration for block in self.rounds[key] for duration in block]

    def ratios(self, base: K, key: K) -> list[float]:
        """Return for each round how many times faster than another one is, by medians."""
        pairs = zip(self.rounds[base], self.rounds[key], strict=True)
        return [float(np.median(theirs) / np.median(ours)) for theirs, ours in pairs]


def take_turns(
    steps: Mapping[K, Callable[[int], object]],
    *,
    rounds: int,
    block: int,
    settle: int,
    tell: Callable[[int, K], None] = lambda done, key: None,
) -> Turns[K]:
    """Run everything in turn, forwards in one round and backwards in the next.

    Args:
        steps: What is run, given the number of the step.
        rounds: How often each takes its turn.
        block: Counted steps of a turn.
        settle: Steps of a turn before them, in which threads and caches change hands.
        tell: Told of each turn: how many are done, and which comes.
    """
    turns: Turns[K] = Turns({key: [] for key in steps})
    order, done = list(steps), 0
    for number in range(rounds):
        for key in order if number % 2 == 0 else reversed(order):
            tell(done, key)
            durations_ns = []
            for index in range(settle + block):
                started = time.monotonic_ns()
                steps[key](index)
                durations_ns.append(time.monotonic_ns() - started)
            turns.rounds[key].append(durations_ns[settle:])
            done += 1
    return turns


def to_cells(
    turns: Turns[Key], accounts: Mapping[str, Account], device: Device, *, base: str, shape: str
) -> list[dict[str, Any]]:
    """Return an entry for each profile and way, as plain JSON values with all raw durations.

    Args:
        turns: What was measured.
        accounts: What each profile costs.
        device: This machine, as it was measured.
        base: Way that the others are compared with.
        shape: Views, pixels, tokens and actions, which stand beside each figure.
    """
    cells = []
    for profile, way in turns.rounds:
        account, summary = accounts[profile], latency_summary(turns.all_ns((profile, way)))
        least_s = sum(bound.seconds for bound in bounds(account.parts, device, PRECISIONS[FP32]))
        cell = {
            "profile": profile,
            "way": way,
            "shape": shape,
            "tokens": round(account.mean_visual_tokens, 1),
            "macs": account.macs,
            "read_bytes": round(sum(part_bytes(part, device, PRECISIONS[FP32]) for part in account.parts)),
            "limit_us": round(1e6 * least_s, 1),
            "share_of_roofline": round(1e6 * least_s / summary["p50_us"], 4),
            "round_p50_us": [round(float(np.median(block)) / 1e3, 1) for block in turns.rounds[profile, way]],
        }
        if (profile, base) in turns.rounds:
            ratios = turns.ratios((profile, base), (profile, way))
            cell[f"times_faster_than_{base}"] = _spread(ratios)
        if (FULL_PROFILE, way) in turns.rounds:
            shrink = account.macs / accounts[FULL_PROFILE].macs
            over = [1 / (ratio * shrink) for ratio in turns.ratios((FULL_PROFILE, way), (profile, way))]
            cell["predicted_us"] = round(
                shrink * float(np.median(turns.all_ns((FULL_PROFILE, way)))) / 1e3, 1
            )
            cell["measured_over_predicted"] = _spread(over)
        cells.append({**cell, **summary})
    return cells


def _spread(values: Sequence[float]) -> dict[str, float]:
    """Return the median over the rounds, and the least and greatest."""
    return {
        "median": round(float(np.median(values)), 4),
        "low": round(min(values), 4),
        "high": round(max(values), 4),
    }


def verdicts(model: str, cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Say of each profile that keeps fewer tokens whether its time follows its MACs.

    Args:
        model: Name of the model.
        cells: What :func:`to_cells` returned.
    """
    return [
        {
            "model": model,
            "profile": cell["profile"],
            "way": cell["way"],
            "measured_over_predicted": cell["measured_over_predicted"]["median"],
            "target": TARGET,
            "is_within": cell["measured_over_predicted"]["median"] <= TARGET,
        }
        for cell in cells
        if cell["profile"] != FULL_PROFILE and "measured_over_predicted" in cell
    ]
