"""The motion gate: is the arm moving fast, or is it slow and at fine work?

Coarse motion needs few visual tokens, fine work needs them all; the arm's own recent motion tells which it is. Idea:
ADP, "Action-aware Dynamic Pruning" (2509.22093), which compares the end effector's displacement in a short window with
the adjacent extremes. The paper's text and code do not settle every detail; this is the rule we read into it:

1. ``d(i)``: length of the net translation that chunk ``i`` commands: the sum of all its rows, as the limiter let them
   pass. Rows that the client replaced by a newer chunk's count too, because the daemon cannot know; all chunks alike,
   so comparisons hold.
2. ``D(i) = d(i - window + 1) + ... + d(i)``: the windowed displacement.
3. Fast if ``D(i)`` is above every one of ``D(i - look_back) ... D(i - 1)``, slow if it is below every one of them; in
   between nothing changes.

An episode begins slow, and stays so until there are ``window + look_back`` chunks to judge by. The rule has no
threshold in metres: it follows the turns of the motion, whatever the robot's size.
"""

from __future__ import annotations

from collections import deque
from math import fsum

import numpy as np
from numpy.typing import NDArray

from saccade.proto.manifest import ActionSpec
from saccade.proto.manifest_rules import translation_columns
from saccade.proto.policy_spec import GateSpec


class MotionGate:
    """Decides from the chunks of one episode; the module docstring has the rule.

    Args:
        spec: How many chunks make a window, and how many windows it is compared with.
        action: Names and units of the action dimensions, which tell the translations among them.

    Attributes:
        is_fast: Whether the arm moves fast, judged by the chunks so far; while it is False, run ``full``.
    """

    is_fast: bool

    def __init__(self, spec: GateSpec, action: ActionSpec) -> None:
        self._columns = list(translation_columns(action))
        self._window, self._look_back = spec.window, spec.look_back
        self._chunks: deque[float] = deque(maxlen=spec.window)
        self._windows: deque[float] = deque(maxlen=spec.look_back)
        self.reset()

    def reset(self) -> None:
        """Begin an episode: without a history, slow."""
        self.is_fast = False
        self._chunks.clear()
        self._windows.clear()

    def note(self, actions: NDArray[np.float32]) -> None:
        """Take note of a chunk that was sent to the arm.

        Args:
            actions: float32 ``(chunk, dim)``, physical units.
        """
        translation = actions[:, self._columns].astype(np.float64).sum(axis=0)
        self._chunks.append(float(np.linalg.norm(translation)))
        if len(self._chunks) < self._window:
            return
        current = fsum(self._chunks)
        if len(self._windows) == self._look_back:
            if current > max(self._windows):
                self.is_fast = True
            elif current < min(self._windows):
                self.is_fast = False
        self._windows.append(current)
