"""What the closed loop showed of a bundle, as its manifest tells it; ``sim`` writes, the robot reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from saccade.proto.errors import ManifestError
from saccade.proto.lowering_spec import CANONICAL


@dataclass(frozen=True)
class Outcomes:
    """How the episodes of one task ended at one profile.

    Args:
        successes: How many episodes succeeded.
        episodes: How many episodes there were.
    """

    successes: int
    episodes: int

    def __post_init__(self) -> None:
        if not 0 <= self.successes <= self.episodes or self.episodes < 1:
            raise ManifestError(
                f"expected at least 1 episode and as many successes at most, found {self.successes} of {self.episodes}."
            )


@dataclass(frozen=True)
class ClosedLoopReceipt:
    """How often each profile of a bundle did each task.

    Args:
        outcomes: How the episodes ended, by profile and by task; every profile ran the same seeds.
        lowering: Name of the form of the graphs that ran; it says nothing of another.
        settings: What ran, and how: versions, machine, seeds, time; for people.
    """

    outcomes: dict[str, dict[str, Outcomes]]
    lowering: str = CANONICAL
    settings: dict[str, Any] = field(default_factory=dict)
