import threading

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
