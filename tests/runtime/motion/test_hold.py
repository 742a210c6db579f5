from saccade.runtime.motion.hold import MotionState, Watchdog

MS = 1_000_000


def test_it_holds_then_latches_until_a_reset() -> None:
    watchdog = Watchdog(100 * MS)
    assert watchdog.update(10_000 * MS, has_action=False) is MotionState.HOLDING
    assert watchdog.update(20_000 * MS, has_action=True) is MotionState.MOVING
    assert watchdog.update(20_100 * MS, has_action=False) is MotionState.HOLDING
    assert watchdog.update(20_101 * MS, has_action=False) is MotionState.LATCHED
    assert watchdog.update(20_102 * MS, has_action=True) is MotionState.LATCHED
    watchdog.reset()
    assert watchdog.update(20_103 * MS, has_action=True) is MotionState.MOVING


def test_an_action_counts_anew_and_a_clock_that_goes_back_counts_nothing() -> None:
    watchdog = Watchdog(100 * MS)
    for now_ms in (0, 60, 120):
        assert watchdog.update(now_ms * MS, has_action=now_ms in {0, 60}) is not MotionState.LATCHED
    for now_ms in (50, 85):
        assert watchdog.update(now_ms * MS, has_action=False) is MotionState.HOLDING
    assert watchdog.update(96 * MS, has_action=False) is MotionState.LATCHED


def test_it_latches_at_once_when_told() -> None:
    watchdog = Watchdog(100 * MS)
    watchdog.latch()
    assert watchdog.update(0, has_action=True) is MotionState.LATCHED
