import numpy as np

from saccade.proto.axis_kind import AxisKind
from saccade.runtime.motion.axis_geometry import AxisGeometry
from saccade.runtime.motion.timed_chunk import TimedChunk
from tests.runtime.motion.limits_samples import limits_of

MS = 1_000_000
ROWS = np.array([[0.0], [1.0], [3.0]], np.float32)


def at(
    chunk: TimedChunk, now_ms: float, kind: AxisKind = AxisKind.LINEAR, *, is_delta: bool = False
) -> float:
    limits = limits_of(1, kind, is_delta=is_delta)
    return float(chunk.at(round(now_ms * MS), limits, AxisGeometry(limits))[0])


def test_rows_are_for_their_times_and_places_go_evenly_between() -> None:
    chunk = TimedChunk(ROWS, 500 * MS, 100 * MS)
    assert [at(chunk, now) for now in (500, 600, 650, 700, 799, 900)] == [0, 1, 2, 3, 3, 3]
    assert [chunk.is_valid(now * MS) for now in (499, 500, 799, 800)] == [False, True, True, False]


def test_deltas_and_discrete_axes_step() -> None:
    chunk = TimedChunk(ROWS, 0, 100 * MS)
    assert [at(chunk, now, AxisKind.DISCRETE) for now in (99, 100, 199)] == [0, 1, 1]
    assert [at(chunk, now, is_delta=True) for now in (99, 100, 199)] == [0, 1, 1]


def test_an_angle_goes_across_the_half_turn() -> None:
    chunk = TimedChunk(np.array([[3.0], [-3.0]], np.float32), 0, 100 * MS)
    assert abs(abs(at(chunk, 50, AxisKind.ANGLE)) - np.pi) < 1e-6
