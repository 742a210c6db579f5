"""How late this machine wakes a program that waits: what a spin before the next control step can gain at most."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_ROOT = Path("/")
_SLEEP_NS = 4_000_000
"""Long enough for a processor to fall asleep as deeply as between two control steps."""


@dataclass(frozen=True)
class Waking:
    """How late a program was woken.

    Args:
        p50_us: Median over all sleeps, microseconds after the asked moment.
        max_us: Latest of all, microseconds after the asked moment.
    """

    p50_us: float
    max_us: float


def measure_waking(rounds: int = 25) -> Waking:
    """Sleep 4 ms again and again, and see how much later the program goes on.

    Args:
        rounds: How often.
    """
    late_us = []
    for _ in range(rounds):
        due_ns = time.monotonic_ns() + _SLEEP_NS
        time.sleep(_SLEEP_NS / 1e9)
        late_us.append((time.monotonic_ns() - due_ns) / 1e3)
    return Waking(float(np.median(late_us)), max(late_us))


def deepest_sleep(root: Path = _ROOT) -> tuple[str, int] | None:
    """Return the deepest state that an idle processor may fall into: its name, and microseconds that leaving it takes.

    Args:
        root: Where ``sys`` is mounted.

    Returns:
        None where the machine does not tell.
    """
    deepest: tuple[str, int] | None = None
    for state in sorted(root.glob("sys/devices/system/cpu/cpu0/cpuidle/state[0-9]*")):
        try:
            if (state / "disable").read_text().strip() != "0":
                continue
            found = (state / "name").read_text().strip(), int((state / "latency").read_text())
        except (OSError, ValueError):
            continue
        if deepest is None or found[1] > deepest[1]:
            deepest = found
    return deepest


def told_waking(root: Path = _ROOT) -> str:
    """Measure, and say in a sentence what was found and what can be done about it.

    Args:
        root: Where ``sys`` is mounted.
    """
    found, asleep = measure_waking(), deepest_sleep(root)
    deep = "" if asleep is None else f", of which {asleep[1]} us to leave the idle state {asleep[0]}"
    return (
        f"{found.p50_us:.0f} us late in the median, {found.max_us:.0f} us at most{deep}; at a robot's pace `--spin-us` "
        "of saccade serve keeps a core awake before the next observation, and `saccade bench --hz 20 --spin-us 200` "
        "measures what that gains here"
    )
