"""Chooses a profile by a deadline: the largest profile whose control step will be over in time.

Before each control step, with ``age`` the time since the observation was captured:

1. A profile *fits* if ``age + its predicted time <= deadline``.
2. If the profile in use does not fit, the largest that does is taken, at once; if none does, the smallest.
3. If larger ones fit with a tenth of the deadline to spare, in each of the last eight control steps, the largest such
   is taken: down at once, up with patience, so that the choice does not swing.
4. Where the views show something new, the patience is waived: what fits is taken.

What was asked for is the most that runs, and only allowed profiles are chosen below it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from saccade.proto.errors import ServeError
from saccade.runtime.deadline.scene_change import SceneChange
from saccade.runtime.deadline.step_times import StepTimes
from saccade.runtime.observation import ProfileChoice

_SPARE = 0.9
"""Share of the deadline that a larger profile must fit in."""
_PATIENCE = 8
"""Control steps in a row in which it must."""


class ProfileChooser:
    """Chooses the profile of each control step; the module docstring has the rules.

    Args:
        deadline_ns: When a chunk has to be ready, nanoseconds after its observation was captured.
        step_times: Predicts the time of each profile's control step.
        allowed: Names of the profiles to choose from.

    Raises:
        ServeError: The deadline is not above 0.
    """

    def __init__(self, deadline_ns: int, step_times: StepTimes, allowed: Collection[str]) -> None:
        if deadline_ns <= 0:
            raise ServeError(f"expected a deadline above 0 ms, found {deadline_ns / 1e6:g}.")
        self._deadline_ns = deadline_ns
        self._times = step_times
        self._allowed = frozenset(allowed)
        self._scene = SceneChange()
        self._in_use: str | None = None
        self._fitting: dict[str, int] = {}

    def reset(self) -> None:
        """Begin an episode: what was seen is forgotten, what the machine can do is not."""
        self._scene.reset()

    def choose(self, asked: str, age_ns: int, images: Mapping[str, NDArray[np.uint8]]) -> ProfileChoice:
        """Return the profile that runs next, and why.

        Args:
            asked: Name of the largest profile that may run.
            age_ns: Time since the observation was captured, nanoseconds.
            images: View name to uint8 ``(height, width, 3)``.
        """
        is_new = self._scene.is_new(images)
        profiles = self._candidates(asked)
        fits = [name for name in profiles if age_ns + self._times.predict_ns(name) <= self._deadline_ns]
        before = self._in_use if self._in_use in profiles else asked
        self._count(profiles, age_ns)
        larger = profiles[: profiles.index(before)]
        patient = [name for name in larger if name in fits and (is_new or self._fitting[name] >= _PATIENCE)]
        if before not in fits:
            chosen, reason = (fits[0], "too slow") if fits else (profiles[-1], "nothing fits")
        elif patient:
            chosen, reason = patient[0], "something new" if is_new else "time to spare"
        else:
            chosen, reason = before, "fits"
        self._in_use = chosen
        return ProfileChoice(
            profile=chosen,
            reason=reason,
            is_switch=chosen != before,
            predicted_ns=self._times.predict_ns(chosen),
            deadline_ns=self._deadline_ns,
        )

    def note(self, profile: str, took_ns: int) -> None:
        """Take note of how long a control step took.

        Args:
            profile: Name of the profile that ran.
            took_ns: How long it took, nanoseconds.
        """
        self._times.note(profile, took_ns)

    def _candidates(self, asked: str) -> list[str]:
        """Return what may run, the largest first: what was asked for, and what is allowed below it."""
        order = self._times.profiles
        return [asked, *(name for name in order[order.index(asked) + 1 :] if name in self._allowed)]

    def _count(self, profiles: list[str], age_ns: int) -> None:
        """Count for how many control steps in a row each profile has fitted with time to spare."""
        for name in profiles:
            fits = age_ns + self._times.predict_ns(name) <= _SPARE * self._deadline_ns
            self._fitting[name] = self._fitting.get(name, 0) + 1 if fits else 0
