"""What scores views, whatever kind of bundle it has: once per task, from its first observation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class TaskScoring(Protocol):
    """The views of one task, being scored."""

    def look(self, images: Mapping[str, NDArray[np.uint8]]) -> None:
        """Show an observation; the first one of a task is scored, later ones change nothing. Never waits.

        Args:
            images: Views by name, uint8 ``(height, width, 3)`` of the size that the robot's manifest says.
        """
        ...

    def wait(self, timeout_s: float) -> bool:
        """Wait until :meth:`scores` has an answer, and say whether it has one. Safe between threads.

        Args:
            timeout_s: Longest wait, seconds.
        """
        ...

    def scores(self, timings_ns: dict[str, int]) -> NDArray[np.float32]:
        """Return how much each view matters: float32 ``(views,)``, in the order of the robot's manifest.

        Args:
            timings_ns: Gets how long the parts of scoring took, nanoseconds, as ``scorer.<name>``.

        Raises:
            ViewsUnscoredError: The scorer still looks.
            EngineError: The scorer failed, or its scores are negative or not finite.
        """
        ...


class ViewScorer(Protocol):
    """Scores the views of one task after the other."""

    def check(self, instruction: str) -> None:
        """Refuse an instruction that the scorer could not read, before the task begins.

        Args:
            instruction: What the arm shall do.

        Raises:
            InstructionError: The instruction is empty, too long or no Unicode text.
        """
        ...

    def begin(self, instruction: str) -> TaskScoring:
        """Begin to score for a task, and give up the task before. Never waits.

        Args:
            instruction: What the arm shall do.
        """
        ...
