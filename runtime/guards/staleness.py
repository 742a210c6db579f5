"""Refuses what comes too late: a used or stale observation, and a chunk that would reach the arm after its time.

The session in the daemon and the client refuse alike, each by its own clock.
"""

from __future__ import annotations

from typing import Literal

from saccade.proto.errors import LateChunkError, ObservationError, StaleObservationError

_NS_PER_MS = 1e6
_REMEDIES = {
    "ready": "keep fewer tokens, or raise --max-age-ms.",
    "arrived": "is the network or the daemon overloaded?",
}


def check_order(sequence: int, last: int) -> None:
    """Refuse an observation that was used before, or is older than one that was.

    Args:
        sequence: Number of the observation within its episode.
        last: Number of the last one that was used; 0 = none yet.

    Raises:
        ObservationError: The sequence does not count up.
    """
    if sequence <= last:
        raise ObservationError(
            f"expected an observation sequence above {last}, found {sequence}: count up within an episode."
        )


def check_age(age_ns: int, max_age_ns: int | None) -> None:
    """Refuse a stale observation, and one whose capture time lies ahead.

    Args:
        age_ns: Nanoseconds since it was captured; negative = captured later than now, so by another clock.
        max_age_ns: Age of the oldest observation that is used, nanoseconds; None = any age.

    Raises:
        StaleObservationError: The observation is older than that, or from the future.
    """
    if max_age_ns is not None and not 0 <= age_ns <= max_age_ns:
        raise StaleObservationError(
            f"expected an observation captured 0 to {max_age_ns / _NS_PER_MS:.1f} ms ago, "
            f"found {age_ns / _NS_PER_MS:.1f} ms: send a newer one, and take its time from monotonic_ns() of "
            f"saccade.runtime.clock on this machine."
        )


def check_in_time(age_ns: int, max_age_ns: int | None, came: Literal["ready", "arrived"]) -> None:
    """Refuse a chunk that is late for the arm.

    Args:
        age_ns: Nanoseconds since its observation was captured; a negative one proves nothing, and is refused.
        max_age_ns: Age of the latest chunk that is acted upon, nanoseconds; None = any age.
        came: What happens at this moment: the chunk is ``ready`` in the session, or has ``arrived`` in the client.

    Raises:
        LateChunkError: The chunk is later than that.
    """
    if max_age_ns is not None and not 0 <= age_ns <= max_age_ns:
        raise LateChunkError(
            f"expected the chunk within {max_age_ns / _NS_PER_MS:.1f} ms of its observation, found it {came} after "
            f"{age_ns / _NS_PER_MS:.1f} ms: it is dropped, hold the arm; {_REMEDIES[came]}"
        )


def no_chunk_in_time(max_age_ns: int) -> LateChunkError:
    """Return the error of a client that stopped waiting, because no chunk that comes now would be acted upon.

    Args:
        max_age_ns: Age of the latest chunk that is acted upon, nanoseconds.
    """
    return LateChunkError(
        f"expected the chunk within {max_age_ns / _NS_PER_MS:.1f} ms of its observation, found none until then: "
        f"hold the arm; {_REMEDIES['arrived']}"
    )
