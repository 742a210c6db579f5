"""When to stay awake for the next observation, and for how long; on a clock that the test moves."""

from __future__ import annotations

import time

from saccade.runtime.paced_spin import PacedSpin, wait_until

MS = 1_000_000


class Clock:
    """Goes on by ``step_ns`` with each look at it."""

    def __init__(self, step_ns: int = 0) -> None:
        self.now_ns, self.step_ns = 0, step_ns

    def __call__(self) -> int:
        self.now_ns += self.step_ns
        return self.now_ns


def paced(spin: PacedSpin, clock: Clock, arrivals_ms: list[float]) -> PacedSpin:
    for moment in arrivals_ms:
        clock.now_ns = round(moment * MS)
        spin.note(clock.now_ns)
    return spin


def test_it_is_time_shortly_before_the_next_one_of_a_steady_rate() -> None:
    clock = Clock()
    spin = paced(PacedSpin(1 * MS, clock), clock, [0, 50, 101, 150, 200])
    assert spin.left_ns() == 49 * MS
    clock.now_ns = round(249.5 * MS)
    assert spin.left_ns() == 0
    clock.now_ns = round(250.9 * MS)
    assert spin.left_ns() == 0, "it may be a little late"
    clock.now_ns = 251 * MS
    assert spin.left_ns() is None, "nobody comes any more"
    spin.note(clock.now_ns)
    assert spin.left_ns() == 49 * MS


def test_without_a_steady_rate_it_never_is() -> None:
    clock = Clock()
    assert paced(PacedSpin(MS, clock), clock, [0, 50, 100]).left_ns() is None, "too few to tell"
    assert paced(PacedSpin(MS, clock), clock, [0, 50, 180, 230, 280]).left_ns() is None
    assert paced(PacedSpin(MS, clock), clock, [7, 7, 7, 7, 7]).left_ns() is None
    assert paced(PacedSpin(0, clock), clock, [0, 50, 100, 150, 200]).left_ns() is None, "not asked for"


def test_a_pause_is_forgotten_after_some_steady_arrivals() -> None:
    clock = Clock()
    spin = paced(PacedSpin(MS, clock), clock, [0, 50, 900])
    assert spin.left_ns() is None
    paced(spin, clock, [950 + 50 * index for index in range(8)])
    assert spin.left_ns() == 49 * MS


def test_a_spin_ends_with_what_it_waits_for_and_is_bounded_without_it() -> None:
    clock = Clock()
    spin = paced(PacedSpin(MS, clock), clock, [0, 50, 100, 150, 200])
    clock.now_ns, clock.step_ns = round(249.0 * MS), MS // 100
    answers = iter([False, False, True])
    spin.spin(lambda: next(answers))
    assert 0 < spin.spun_ns < MS // 10
    spin.spin(lambda: False)
    assert clock.now_ns >= 251 * MS and spin.spun_ns <= 2.1 * MS


def test_waiting_awake_ends_no_sooner_than_due() -> None:
    for spin_ns in (0, MS):
        due_ns = time.monotonic_ns() + 3 * MS
        wait_until(due_ns, spin_ns)
        assert time.monotonic_ns() >= due_ns
    before_ns = time.monotonic_ns()
    wait_until(before_ns - MS, MS)  # has passed: nothing is waited for
