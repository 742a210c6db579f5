"""Times control steps, the profiles in turn, back to back and at a robot's rate."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from saccade.proto.manifest import Manifest
from saccade.runtime.clock import monotonic_ns
from saccade.runtime.observation import Observation
from saccade.runtime.paced_spin import wait_until
from saccade.runtime.session import Session

STEP = "step"
"""Name of the span from an observation to its chunk, everything in between."""
WAKE = "wake"
"""Name of the span from the moment at which a paced step was due to its beginning; steps that were late have none."""
_BLOCK = 32
"""Counted steps of a profile before the next one takes its turn, so that a slow minute slows all of them."""
_SETTLE = 4
"""Steps at the start of a block that are not counted: threads and caches change hands."""
_PICTURES = 16


@dataclass
class Timing:
    """What the counted steps of one profile took, at one pace.

    Args:
        profile: Name of the profile that was asked for.
        hz: Control steps a second that were asked for; None = back to back.
        spans_ns: Duration of each counted step, nanoseconds, by the name of the span.
        ran: How many counted steps ran each profile: warm-up and refresh steps run ``full``.
        late: How many counted steps began after their time, because the one before was not done.
        seconds: Time that the counted steps and the pauses between them took.
        spin_ns: How long it was awake before each step was due, nanoseconds.
    """

    profile: str
    hz: float | None
    spans_ns: dict[str, list[int]] = field(default_factory=dict)
    ran: Counter[str] = field(default_factory=Counter)
    late: int = 0
    seconds: float = 0.0
    spin_ns: int = 0

    @property
    def steps(self) -> int:
        """How many steps were counted."""
        return self.ran.total()

    def quantile_ms(self, fraction: float, span: str = STEP) -> float:
        """Return a quantile of a span, milliseconds: a duration that was measured, none in between."""
        return float(np.quantile(self.spans_ns[span], fraction, method="inverted_cdf")) / 1e6


def time_steps(  # noqa: PLR0913 - all but four are options
    session: Session,
    manifest: Manifest,
    profiles: Sequence[str],
    paces: Sequence[float | None],
    *,
    seconds: float,
    steps: int,
    spin_ns: int = 0,
    on_block: Callable[[Timing], None] = lambda _: None,
) -> list[Timing]:
    """Time every profile at every pace, in one run.

    Args:
        session: Session that was reset; its carry goes on through all of it.
        manifest: Manifest of its bundle.
        profiles: Names of the profiles; they take turns.
        paces: Control steps a second; None = back to back.
        seconds: Least time of each profile and pace, seconds.
        steps: Least number of counted steps of each.
        spin_ns: Time each pace a second time, in turn with the first, awake for so long before each step, nanoseconds.
        on_block: Called after each block with what it was added to.

    Raises:
        SaccadeError: What :meth:`saccade.runtime.session.Session.step` raises.
    """
    observations = _observations(manifest)
    timings: list[Timing] = []
    for hz in paces:
        spins = (0, spin_ns) if hz is not None and spin_ns else (0,)
        turns = [Timing(profile, hz, spin_ns=spin) for profile in profiles for spin in spins]
        timings += turns
        while any(timing.seconds < seconds or timing.steps < steps for timing in turns):
            for timing in turns:
                _time_block(session, observations, timing)
                on_block(timing)
    return timings


def _time_block(session: Session, observations: Iterator[Observation], timing: Timing) -> None:
    period_ns = 0 if timing.hz is None else round(1e9 / timing.hz)
    due_ns = began_ns = time.monotonic_ns()
    for index in range(_SETTLE + _BLOCK):
        is_late = index > 0 and period_ns > 0 and time.monotonic_ns() > due_ns
        wait_until(due_ns, timing.spin_ns)
        woken_ns = time.monotonic_ns() - due_ns
        if index == _SETTLE:
            began_ns = time.monotonic_ns()
        observation = next(observations)
        started = time.monotonic_ns()
        chunk = session.act(observation, timing.profile)
        span = time.monotonic_ns() - started
        due_ns = max(due_ns + period_ns, started) if period_ns else started
        if index < _SETTLE:
            continue
        timing.late += is_late
        timing.ran[chunk.profile] += 1
        wake = {WAKE: woken_ns} if period_ns and not is_late else {}
        for name, duration in {STEP: span, **wake, **chunk.timings_ns}.items():
            timing.spans_ns.setdefault(name, []).append(duration)
    timing.seconds += (time.monotonic_ns() - began_ns) / 1e9


def _observations(manifest: Manifest) -> Iterator[Observation]:
    """Yield observations of random pictures without end: what a step costs does not depend on what is seen."""
    rng = np.random.default_rng(0)
    pictures = [
        {view.name: rng.integers(0, 256, (view.height, view.width, 3), np.uint8) for view in manifest.views}
        for _ in range(_PICTURES)
    ]
    proprio, sequence = np.zeros(manifest.proprio.dim, np.float32), 0
    while True:
        sequence += 1
        yield Observation(pictures[sequence % _PICTURES], proprio, monotonic_ns(), sequence)
