"""The client's measure of the daemon's clock: learnt from every chunk, told with every observation."""

from __future__ import annotations

import threading

from saccade.proto.v1 import control_pb2 as wire
from saccade.runtime.clock import monotonic_ns
from saccade.runtime.clock_offset import ClockEstimate, ClockOffset
from saccade.runtime.transports.wire_format import clock_to_wire


class DaemonClock:
    """One session's measure. Safe between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._offset = ClockOffset()
        self._sent_ns: dict[int, int] = {}

    def estimate(self) -> ClockEstimate | None:
        """Return how the daemon's clock differs from this one now; None before the first round trip."""
        with self._lock:
            return self._offset.estimate(monotonic_ns())

    def send(self, observation: wire.Observation) -> wire.Observation:
        """Write what is known into an observation that leaves now, and return it.

        Args:
            observation: The message.
        """
        with self._lock:
            now_ns = monotonic_ns()
            estimate = self._offset.estimate(now_ns)
            if estimate is not None:
                observation.clock.CopyFrom(clock_to_wire(estimate))
            self._sent_ns[observation.sequence] = now_ns
        return observation

    def receive(self, chunk: wire.ActionChunk) -> None:
        """Learn from a chunk that just arrived, if the daemon says when it was asked.

        Args:
            chunk: The message.
        """
        with self._lock:
            sent_ns = self._sent_ns.pop(chunk.sequence, 0)
            if sent_ns and chunk.arrived_server_ns:
                self._offset.add(
                    sent_ns=sent_ns,
                    arrived_ns=chunk.arrived_server_ns,
                    replied_ns=chunk.replied_server_ns,
                    received_ns=monotonic_ns(),
                )

    def forget(self, sequence: int) -> None:
        """Forget an observation that no chunk will answer.

        Args:
            sequence: Its number.
        """
        with self._lock:
            self._sent_ns.pop(sequence, None)
