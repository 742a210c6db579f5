from saccade.runtime.control.pace import Pace


def test_ticks_stay_on_their_schedule_and_missed_ones_are_left_out() -> None:
    now = [1_000]
    pace = Pace(100, clock=lambda: now[0])
    waits = []
    for at in (1_000, 1_130, 1_200, 1_650, 1_700):
        now[0] = at
        waits.append(round(pace.wait_s() * 1e9))
    assert waits == [100, 70, 100, 0, 0], "due at 1100, 1200, 1300, then at 1600 with two left out, then 1700"
    assert pace.missed == 2
    now[0] = 9_000
    pace.restart()
    assert (round(pace.wait_s() * 1e9), pace.missed) == (100, 2)
