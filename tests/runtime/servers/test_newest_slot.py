import threading
import time

import pytest

from saccade.runtime.paced_spin import PacedSpin
from saccade.runtime.servers.newest_slot import NewestSlot


def test_the_newest_wins_and_the_rest_is_counted() -> None:
    slot: NewestSlot[int] = NewestSlot()
    assert [slot.put(item) for item in (1, 2, 3)] == [None, 1, 2]
    assert slot.take() == 3
    assert slot.put(4) is None
    assert (slot.received, slot.superseded) == (4, 2)


def test_a_waiting_taker_is_woken() -> None:
    slot: NewestSlot[int] = NewestSlot()
    taken: list[int | None] = []
    taker = threading.Thread(target=lambda: taken.append(slot.take()))
    taker.start()
    slot.put(1)
    taker.join(timeout=10)
    assert taken == [1]


def test_closing_wakes_a_waiting_taker() -> None:
    slot: NewestSlot[int] = NewestSlot()
    taken: list[int | None] = []
    taker = threading.Thread(target=lambda: taken.append(slot.take()))
    taker.start()
    slot.close()
    taker.join(timeout=10)
    assert taken == [None]


def test_a_closed_slot_gives_what_it_holds_and_takes_nothing() -> None:
    slot: NewestSlot[int] = NewestSlot()
    slot.put(1)
    slot.close()
    assert slot.put(2) == 2
    assert (slot.take(), slot.take()) == (1, None)


def test_nothing_is_lost_between_threads() -> None:
    slot: NewestSlot[int] = NewestSlot()
    taken: list[int] = []

    def take_all() -> None:
        while (item := slot.take()) is not None:
            taken.append(item)

    taker = threading.Thread(target=take_all)
    taker.start()
    replaced = [item for item in (slot.put(number) for number in range(5000)) if item is not None]
    slot.close()
    taker.join(timeout=10)
    assert sorted(taken + replaced) == list(range(5000))
    assert taken == sorted(taken)


def due_in(seconds: float, spin_s: float = 20.0) -> PacedSpin:
    """A spin that expects something, which came once a minute, so many seconds from now."""
    spin, last_ns = PacedSpin(round(spin_s * 1e9)), time.monotonic_ns() - round((60 - seconds) * 1e9)
    for age in (3, 2, 1, 0):
        spin.note(last_ns - age * 60 * 10**9)
    return spin


@pytest.mark.parametrize("seconds", [1.0, 20.3, 59.0])
def test_a_taker_that_spins_or_will_takes_what_comes(seconds: float) -> None:
    """Spinning, asleep until it is time to spin, or asleep for long."""
    slot: NewestSlot[int] = NewestSlot()
    spin, taken = due_in(seconds), list[int | None]()
    taker = threading.Thread(target=lambda: taken.append(slot.take(spin)))
    taker.start()
    deadline = time.monotonic() + 30
    while seconds < 40 and spin.left_ns() != 0 and time.monotonic() < deadline:
        time.sleep(0.05)
    slot.put(1)
    taker.join(timeout=30)
    assert taken == [1]


def test_closing_ends_a_spin() -> None:
    slot: NewestSlot[int] = NewestSlot()
    spin, taken = due_in(1.0), list[int | None]()
    taker = threading.Thread(target=lambda: taken.append(slot.take(spin)))
    taker.start()
    slot.wake()
    slot.close()
    taker.join(timeout=30)
    assert taken == [None]
