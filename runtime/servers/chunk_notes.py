"""What is counted and logged of each chunk, and of the time that passes between them."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from saccade.runtime.observation import ActionChunk
from saccade.runtime.servers.counters import Counters
from saccade.runtime.servers.limited_log import LimitedLog


class ChunkNotes:
    """Counts what is worth a number, and logs what is strange but used. Safe between threads.

    Args:
        counters: Counters of the daemon.
        log: Where what is strange is written.
    """

    def __init__(self, counters: Counters, log: LimitedLog) -> None:
        self._counters = counters
        self._log = log

    def note(self, chunk: ActionChunk) -> None:
        """Count a chunk that is about to be sent.

        Args:
            chunk: The chunk, its timings among them.
        """
        count = self._counters.count
        count("chunks")
        count("clamped", chunk.clamped)
        if chunk.choice is not None:
            count("deadline.switches", chunk.choice.is_switch)
            count("deadline.missed", chunk.choice.is_missed)
        self.say(
            "proprio.far", chunk.far_proprio, "proprioception far outside the statistics: check the units of"
        )
        self._counters.time(f"total.{chunk.profile}", chunk.timings_ns["total"])
        count("limited", len(chunk.limited) > 0)
        for name in chunk.limited:
            count(f"limited.{name}")
        if chunk.limited:
            moved = ", ".join(chunk.limited)
            self._log.write(logging.WARNING, "limited", f"moved a chunk to follow on: {moved}")

    def say(self, counter: str, names: Sequence[str], what: str) -> None:
        """Count and log what is strange, but used.

        Args:
            counter: Name of the counter, and the kind of the log entry.
            names: What was found; nothing is logged where there is none.
            what: What they are, in words.
        """
        self._counters.count(counter, len(names))
        if names:
            self._log.write(logging.WARNING, counter, f"found {what}: {', '.join(map(repr, names))}")

    def note_sleep(self, slept_ns: int) -> None:
        """Count and log that the machine slept: what was captured before is old now.

        Args:
            slept_ns: How long, nanoseconds; 0 = it did not.
        """
        if slept_ns:
            self._counters.count("clock.suspended")
            self._log.write(
                logging.WARNING, "clock.suspended", f"the machine slept for {slept_ns / 1e9:.1f} s"
            )
