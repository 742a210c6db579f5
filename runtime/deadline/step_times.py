"""How long would a control step take at each profile, now? Idle step times, scaled by the machine's recent load.

Load is how much longer a step took than the same profile does on an idle machine; it is the machine's, whichever
profile ran, so what was measured at one tells of all. Of the last few steps the second longest counts: one outlier
changes nothing, two slow steps do at once, and they are forgotten when as many others have followed.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping

from saccade.runtime.program import ProgramExecutor

_REMEMBERED = 12
"""Control steps that tell the load."""
_ROUNDS = 5


class StepTimes:
    """Predicts the time of a control step.

    Args:
        idle_ns: Time of a control step on an idle machine, by profile, nanoseconds; the largest profile first.
    """

    def __init__(self, idle_ns: Mapping[str, int]) -> None:
        self._idle_ns = dict(idle_ns)
        self._loads: deque[float] = deque(maxlen=_REMEMBERED)

    @property
    def profiles(self) -> tuple[str, ...]:
        """Names of the profiles, the largest first."""
        return tuple(self._idle_ns)

    @property
    def load(self) -> float:
        """How many times as long as at the start a step takes; below 1 where the machine was busy then."""
        return sorted(self._loads)[-2] if len(self._loads) > 1 else 1.0

    def predict_ns(self, profile: str) -> int:
        """Return how long a control step would take, nanoseconds.

        Args:
            profile: Name of the profile.
        """
        return round(self._idle_ns[profile] * self.load)

    def note(self, profile: str, took_ns: int) -> None:
        """Take note of a control step that ran.

        Args:
            profile: Name of the profile that ran.
            took_ns: How long it took, nanoseconds.
        """
        self._loads.append(took_ns / self._idle_ns[profile])


def measured_step_times(program: ProgramExecutor) -> StepTimes:
    """Time every profile on zeros; the shortest of a few rounds counts, in which the profiles take turns.

    Args:
        program: Executor of the bundle, warmed up; its carry stays as it is.

    Raises:
        EngineError: An engine failed.
    """
    shortest: dict[str, int] = {}
    for _ in range(_ROUNDS):
        for profile in sorted(program.manifest.profiles, key=lambda profile: profile.keep, reverse=True):
            began_ns = time.monotonic_ns()
            program.step(profile.name, {})
            took_ns = max(1, time.monotonic_ns() - began_ns)
            shortest[profile.name] = min(took_ns, shortest.get(profile.name, took_ns))
    return StepTimes(shortest)
