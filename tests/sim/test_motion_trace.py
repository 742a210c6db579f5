import numpy as np
import pytest

from saccade.sim.motion_trace import MotionTrace


def test_the_largest_jumps_are_told_at_seams_and_elsewhere() -> None:
    trace = MotionTrace(0.01, 0.05)
    for index, dx in enumerate([0.001, 0.001, 0.001, 0.001, 0.003, 0.003, 0.003, 0.003]):
        if index == 4:
            trace.note_seam()
        trace.note(np.array([dx, 0, -dx / 2, 1], np.float32))
    found = trace.figures(clamped=3, held=2)
    assert (found.seams, found.clamped, found.held, found.is_latched) == (1, 3, 2, False)
    assert found.seam_velocity == pytest.approx(0.3) and found.velocity == pytest.approx(0.3)
    assert found.seam_change == pytest.approx(0.2 * 0.05), "from 0.1 to 0.3 m/s, times a control step"
    assert found.seam_jerk == pytest.approx(0.2 / 0.01 / 0.01)
    assert found.change == pytest.approx(0.01) and found.jerk == pytest.approx(2000)


def test_an_arm_that_never_moved_has_none() -> None:
    trace = MotionTrace(0.01, 0.05)
    trace.note(np.zeros(4, np.float32))
    found = trace.figures(is_latched=True)
    assert (found.seam_change, found.jerk, found.seams, found.is_latched) == (0, 0, 0, True)
