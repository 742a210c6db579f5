"""Time that does not wait: while the daemon thinks, the simulated world runs on, with the arm's last command standing.

A chunk is then used as the client uses it: whole, from when it came, or not at all if it is older than it lasts.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from saccade.proto.errors import LateChunkError, SimulatorError
from saccade.runtime.guards.staleness import check_in_time
from saccade.runtime.observation import ActionChunk
from saccade.sim.tabletop.scene import TIMESTEP_S
from saccade.sim.tabletop.world import CONTROL_HZ

_TICK_NS = round(TIMESTEP_S * 1e9)


@dataclass(frozen=True)
class LiveTime:
    """How much simulated time a control step takes.

    Args:
        latency_ms: Fixed latency, milliseconds: the same everywhere, and again; None = what the client saw.

    Raises:
        SimulatorError: The latency is negative or not finite.
    """

    latency_ms: float | None = None

    def __post_init__(self) -> None:
        if self.latency_ms is not None and not (isfinite(self.latency_ms) and self.latency_ms >= 0):
            raise SimulatorError(
                f"expected a latency of 0 ms or more, found {self.latency_ms:g} ms: leave it out to use the "
                "measured one."
            )

    def latency_ns(self, measured_ns: int) -> int:
        """Return the latency that counts, nanoseconds, of one that was measured."""
        return measured_ns if self.latency_ms is None else round(self.latency_ms * 1e6)


class TickCount:
    """Turns latencies into physics steps; what is left over of one is added to the next."""

    def __init__(self) -> None:
        self._left_ns = 0

    def ticks(self, latency_ns: int) -> int:
        """Return how many physics steps of ``TIMESTEP_S`` pass in ``latency_ns``."""
        ticks, self._left_ns = divmod(self._left_ns + latency_ns, _TICK_NS)
        return ticks


def is_late(chunk: ActionChunk, age_ns: int) -> bool:
    """Return whether the client drops a chunk.

    Args:
        chunk: Chunk that has just arrived.
        age_ns: Nanoseconds of simulated time since its observation.
    """
    lasts_ns = round(len(chunk.actions) / CONTROL_HZ * 1e9)
    try:
        check_in_time(age_ns, lasts_ns, "arrived")
    except LateChunkError:
        return True
    return False
