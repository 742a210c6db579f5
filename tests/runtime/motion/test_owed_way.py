from __future__ import annotations

import numpy as np

from saccade.runtime.motion.motion_controller import MotionController
from saccade.runtime.motion.owed_way import OwedWay
from tests.runtime.motion.limits_samples import limits_of

MS = 1_000_000
PERIOD = 100 * MS


def test_what_a_late_chunk_counts_on_less_what_was_sent_is_paid_evenly() -> None:
    owed = OwedWay(np.array([True, False]), PERIOD, np.full(2, np.inf))
    for at_ns, dx in ((0, 9.0), (100, 0.1), (200, 0.3)):
        owed.note(np.array([dx, 7.0], np.float32), at_ns * MS)
    owed.owe(np.array([[1.0, 5.0], [2.0, 5.0], [4.0, 5.0], *[[0.0, 0.0]] * 9], np.float32), 0, 250 * MS)
    due = [owed.take(100 * MS) for _ in range(4)]
    np.testing.assert_allclose(np.sum(due, axis=0), [1 + 2 + 4 / 2 - 0.4, 0], atol=1e-6)
    np.testing.assert_allclose([each[0] for each in due], [1.84, 1.84, 0.92, 0], atol=1e-6)


def test_nothing_is_owed_where_nobody_knows_what_was_sent_and_to_none_but_the_newest() -> None:
    owed = OwedWay(np.array([True]), PERIOD, np.array([2.0]))
    chunk = np.ones((3, 1), np.float32)
    owed.owe(chunk, 0, 200 * MS)
    assert owed.take(PERIOD) == 0
    owed.note(np.zeros(1, np.float32), 0)
    owed.owe(chunk, 0, 200 * MS)
    owed.owe(chunk * 0, 0, 200 * MS)
    assert owed.take(PERIOD) == 0
    owed.owe(chunk, 0, 200 * MS)
    assert owed.take(PERIOD // 2) == 0.1, "no faster than 2 a second"
    owed.clear()
    assert owed.take(PERIOD) == 0


def test_a_model_that_wants_to_be_there_in_two_steps_gets_there_however_late_it_answers() -> None:
    """Of each chunk the two actions that lead to the goal are past when it arrives."""
    motion = MotionController(limits_of(1, is_delta=True), tick_hz=100)
    goal, place, seen = 0.1, 0.0, (0, 0.0)
    for index in range(300):
        now_ns = index * 10 * MS
        if index % 20 == 0 and index:
            captured_ns, there = seen
            half = np.clip((goal - there) / 2, -0.05, 0.05)
            motion.add(np.array([[half], [half], *[[0.0]] * 6], np.float32), captured_ns, now_ns)
        if index % 20 == 0:
            seen = (now_ns, place)
        place += float(motion.tick(now_ns).values[0])
    assert abs(place - goal) < 2e-3
