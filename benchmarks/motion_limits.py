"""Millions of hostile commands through the command limiter: how near each limit came, and that none was broken.

python -m benchmarks.motion_limits
"""

from __future__ import annotations

import argparse
import time
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results_file import RESULTS, write_results
from saccade.runtime.motion.motion_limits import MotionLimits
from saccade.runtime.provenance import provenance
from tests.runtime.motion.divided_differences import difference
from tests.runtime.motion.limits_samples import limits_of
from tests.runtime.motion.test_command_limiter import hostile_run

AXES = 1000
WORDS = ("velocity", "acceleration", "jerk", "position")
CASES = {
    "velocity, acceleration, jerk": limits_of(AXES),
    "no jerk limit": limits_of(AXES, jerk=inf),
    "fast": limits_of(AXES, velocity=30.0, acceleration=200.0, jerk=2e4),
    "jerk leads": limits_of(AXES, acceleration=50.0, jerk=80.0),
}


def measure(limits: MotionLimits, commands: int, seed: int) -> dict[str, Any]:
    """Return how many commands were sent and the largest share of each limit that they used."""
    started = time.perf_counter()
    found = dict.fromkeys(WORDS, 0.0)
    count = 0
    for sent in hostile_run(limits, commands, seed):
        places = np.stack([command.values for command in sent])
        count += places.size
        steps_s = np.array([1.0, 1.0, *(command.step_ns / 1e9 for command in sent[1:])])
        padded = np.concatenate([places[:1], places[:1], places])
        for order, word in enumerate(WORDS[:3], 1):
            most = getattr(limits, word)[0]
            found[word] = max(found[word], float(np.abs(difference(order, padded, steps_s)).max() / most))
        # A pose may be a tenth of the range outside to begin with; nothing goes further out than it.
        outermost = np.maximum(limits.high, np.abs(places[0]))
        found["position"] = max(found["position"], float((np.abs(places) / outermost).max()))
    return {"commands": count, "seconds": round(time.perf_counter() - started, 1), **found}


def main() -> None:
    """Run all cases and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commands", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS / "motion_limits.json")
    options = parser.parse_args()
    rows = [
        {"limits": name, **measure(limits, options.commands, options.seed)} for name, limits in CASES.items()
    ]
    settings = {"commands": options.commands, "seed": options.seed, "tick_ms": 10}
    write_results(options.out, {**provenance(), "settings": settings, "largest_share_of_a_limit": rows})
    broken = [row["limits"] for row in rows if max(row[word] for word in WORDS) > 1]
    if broken:
        raise SystemExit(f"a limit was broken: {broken}")


if __name__ == "__main__":
    main()
