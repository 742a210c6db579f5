"""Who owns the robot. One owner at a time; held for microseconds, never while the engine runs."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from saccade.proto.errors import LeaseHeldError, NoSessionError
from saccade.runtime.clock import Clock
from saccade.runtime.clock_offset import ClockEstimate
from saccade.runtime.session import Session

_VANISHED_LEASE_NS = 1_000_000_000
"""What is left of the lease of a client whose connection broke; any call of its renews it."""


@dataclass
class Owner:
    """The client that owns the robot.

    Args:
        token: Secret that names the session in every call.
        client_name: What the client calls itself, for people.
        session: The session that runs its control steps.
        has_our_clock: Whether the client reads the daemon's monotonic clock, so that times can be compared.
        expires_ns: From this moment on somebody else may take over, nanoseconds on the daemon's clock.
        vanished_ns: When its connection broke last, nanoseconds on the daemon's clock; -1 = never.
        reset_ns: When its episode began, nanoseconds on the daemon's clock.
        waits_ns: When the newest observation arrived that waited for scored views, nanoseconds on the daemon's clock.
        clock: What it measured of the daemon's clock against its own; None = nothing yet.
        farewells: What is called once it is the owner no more.
    """

    token: str
    client_name: str
    session: Session
    has_our_clock: bool
    expires_ns: int
    vanished_ns: int = -1
    reset_ns: int = 0
    waits_ns: int = 0
    clock: ClockEstimate | None = None
    farewells: list[Callable[[], None]] = field(default_factory=list)


class Lease:
    """Lends the robot. Safe between threads.

    Args:
        duration_ns: How long a lease lasts that is not renewed, nanoseconds. Then it may be taken over; until it is,
            its owner may go on.
        clock: Returns monotonic nanoseconds.
    """

    def __init__(self, duration_ns: int, clock: Clock) -> None:
        self.duration_ns = duration_ns
        self._clock = clock
        self._owner: Owner | None = None
        self._lock = threading.Lock()

    @property
    def is_held(self) -> bool:
        """Whether somebody owns the robot and renewed the lease in time."""
        with self._lock:
            return self._owner is not None and self._clock() < self._owner.expires_ns

    @property
    def owner_clock(self) -> ClockEstimate | None:
        """What the owner measured of the clocks; None while nobody owns the robot, or nothing was measured."""
        with self._lock:
            return None if self._owner is None else self._owner.clock

    def take(self, client_name: str, session: Session, *, has_our_clock: bool) -> str:
        """Make a client the owner and return its token.

        Args:
            client_name: What the client calls itself, for people.
            session: The session that runs its control steps.
            has_our_clock: Whether the client reads the daemon's monotonic clock.

        Raises:
            LeaseHeldError: Another client owns the robot.
        """
        with self._lock:
            now = self._clock()
            if self._owner is not None and now < self._owner.expires_ns:
                raise LeaseHeldError(
                    f"expected a free robot, found it owned by {self._owner.client_name!r} for up to "
                    f"{(self._owner.expires_ns - now) / 1e9:.1f} s more: wait, or close that client."
                )
            farewells = self._release()
            token = secrets.token_hex(16)
            self._owner = Owner(token, client_name, session, has_our_clock, now + self.duration_ns)
        _call_all(farewells)
        return token

    def check(self, token: str) -> None:
        """Refuse whoever is not the owner.

        Raises:
            NoSessionError: The token is not the owner's.
        """
        with self._lock:
            self._owned(token)

    def renew(self, token: str, arrived_ns: int) -> Owner:
        """Extend the lease, unless the call arrived before its client vanished, and return the owner.

        Args:
            token: Token of the caller's session.
            arrived_ns: When the call arrived, nanoseconds on the daemon's clock.

        Raises:
            NoSessionError: The token is not the owner's.
        """
        with self._lock:
            owner = self._owned(token)
            if arrived_ns > owner.vanished_ns:
                owner.expires_ns = self._clock() + self.duration_ns
            return owner

    def end(self, token: str) -> None:
        """Take the robot back from its owner.

        Raises:
            NoSessionError: The token is not the owner's.
        """
        with self._lock:
            self._owned(token)
            farewells = self._release()
            self._owner = None
        _call_all(farewells)

    def when_over(self, token: str, farewell: Callable[[], None]) -> None:
        """Have something called once the owner is the owner no more, or the daemon drains.

        Args:
            token: Token of the owner's session.
            farewell: Called once, from any thread.

        Raises:
            NoSessionError: The token is not the owner's.
        """
        with self._lock:
            self._owned(token).farewells.append(farewell)

    def drain(self) -> None:
        """Let go of whoever waits for the end of the lease."""
        with self._lock:
            farewells = self._release()
        _call_all(farewells)

    def shorten(self, token: str) -> bool:
        """Leave a client whose connection broke a moment; say whether it is the owner."""
        with self._lock:
            owner = self._owner
            if owner is None or owner.token != token:
                return False
            owner.vanished_ns = self._clock()
            owner.expires_ns = min(owner.expires_ns, owner.vanished_ns + _VANISHED_LEASE_NS)
            return True

    def _owned(self, token: str) -> Owner:
        if self._owner is None or self._owner.token != token:
            raise NoSessionError(
                "expected the token of the open session, found another or none: open a session first; "
                "a lease that was not renewed in time may have been taken over."
            )
        return self._owner

    def _release(self) -> list[Callable[[], None]]:
        farewells: list[Callable[[], None]] = []
        if self._owner is not None:
            farewells, self._owner.farewells = self._owner.farewells, []
        return farewells


def _call_all(farewells: list[Callable[[], None]]) -> None:
    """Without the lock: what is called may come back here."""
    for farewell in farewells:
        farewell()
