import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import BPoly
from scipy.spatial.transform import Rotation

from saccade.proto.axis_kind import AxisKind
from saccade.proto.errors import ActionRefusedError, LateChunkError, StaleObservationError
from saccade.runtime.motion.chunk_queue import ChunkQueue, QueueMode
from saccade.runtime.motion.motion_limits import MotionLimits
from tests.runtime.motion.limits_samples import limits_of

MS = 1_000_000
PERIOD = 100 * MS


def arm() -> MotionLimits:
    limits = limits_of(2)
    object.__setattr__(limits, "kinds", (AxisKind.LINEAR, AxisKind.DISCRETE))
    return limits


def chunk(*places: float, grip: float = 0.0) -> np.ndarray:  # type: ignore[type-arg]
    return np.array([[place, grip] for place in places], np.float32)


def wanted(queue: ChunkQueue, now_ms: float) -> list[float]:
    command = queue.wanted(round(now_ms * MS), 10 * MS)
    assert command is not None
    return [round(float(number), 6) for number in command]


def test_latest_skips_what_is_past_by_the_measured_age_and_ends_with_its_chunk() -> None:
    queue = ChunkQueue(arm())
    assert queue.wanted(0, 10 * MS) is None
    queue.add(chunk(0, 1, 2, 3), 0, 150 * MS)
    assert wanted(queue, 150) == [1.5, 0]
    queue.add(chunk(5, 6, 7, grip=1), 100 * MS, 250 * MS)
    assert wanted(queue, 250) == [6.5, 1]
    queue.add(chunk(9, 9, 9, 9), 50 * MS, 260 * MS)  # older than what is there
    assert wanted(queue, 260) == [6.6, 1]
    assert queue.wanted(400 * MS, 10 * MS) is None


@given(
    st.lists(st.lists(st.floats(-1, 1, width=32), min_size=6, max_size=6), min_size=1, max_size=5),
    st.floats(0, 2),
)
def test_ensemble_is_acts_formula_and_the_gripper_is_the_newest(
    rows: list[list[float]], decay: float
) -> None:
    queue = ChunkQueue(arm(), QueueMode.ENSEMBLE, decay=decay)
    for index, places in enumerate(rows):
        queue.add(chunk(*places, grip=index), index * PERIOD, index * PERIOD)
    now = len(rows) - 1
    weights = [np.exp(-decay * age) for age in range(len(rows))]  # the oldest first, as in ACT
    mean = sum(w * places[now - index] for index, (w, places) in enumerate(zip(weights, rows, strict=True)))
    np.testing.assert_allclose(
        queue.wanted(now * PERIOD, PERIOD), [mean / sum(weights), now], rtol=1e-6, atol=1e-6
    )


def test_rotations_are_averaged_as_rotations() -> None:
    queue = ChunkQueue(limits_of(3, AxisKind.AXIS_ANGLE), QueueMode.ENSEMBLE, decay=0.0)
    for angle in (3.1, -3.1):  # 0.083 rad apart
        queue.add(np.array([[0, 0, angle]], np.float32), 0, 0)
    found = queue.wanted(0, PERIOD)
    assert found is not None
    assert (Rotation.from_rotvec(found).inv() * Rotation.from_rotvec([0, 0, np.pi])).magnitude() < 1e-6


@given(st.lists(st.floats(-1, 1, width=32), min_size=8, max_size=8), st.integers(10, 250))
def test_a_blended_seam_is_the_quintic_between_the_motions(rows: list[float], arrival_ms: int) -> None:
    """Of scipy: the polynomial with the old motion's gap and its rate at one end, and nothing at the other."""
    queue = ChunkQueue(arm(), QueueMode.BLEND, seam_ns=80 * MS)
    old, new = rows[:4], rows[4:]
    arrival_ms += arrival_ms % 100 == 0  # a corner of the path has two rates
    queue.add(chunk(*old), 0, 0)
    queue.add(chunk(*new, grip=1), 10 * MS, arrival_ms * MS)
    row, new_row = arrival_ms // 100, (arrival_ms - 10) // 100
    if (arrival_ms - 10) % 100 > 20:
        return  # the new chunk has a corner within the seam

    def on(places: list[float], start: int, time_ms: float) -> float:
        return float(np.interp(time_ms - start, np.arange(4) * 100, places))

    rate = (old[row + 1] - old[row] - new[new_row + 1] + new[new_row]) / 100
    gap = on(old, 0, arrival_ms) - on(new, 10, arrival_ms)
    seam = BPoly.from_derivatives([0, 80], [[gap, rate, 0], [0, 0, 0]])
    for after in (0, 1, 20, 40, 79, 80):
        want = on(new, 10, arrival_ms + after) + float(seam(after))
        np.testing.assert_allclose(wanted(queue, arrival_ms + after), [want, 1], atol=1e-5)


def test_a_blended_delta_goes_from_the_old_rate_to_the_new() -> None:
    queue = ChunkQueue(limits_of(1, is_delta=True), QueueMode.BLEND, seam_ns=80 * MS)
    queue.add(np.full((4, 1), 0.5, np.float32), 0, 0)
    queue.add(np.full((4, 1), -0.5, np.float32), 0, 50 * MS)
    for now_ms, rate in ((50, 0.5), (90, 0.0), (130, -0.5), (200, -0.5)):
        found = queue.wanted(now_ms * MS, PERIOD)
        assert found is not None and found[0] == pytest.approx(rate, abs=1e-6)


def test_a_delta_is_shared_out_over_the_ticks_of_a_control_step() -> None:
    queue = ChunkQueue(limits_of(1, is_delta=True))
    queue.add(np.array([[0.5], [1.0]], np.float32), 0, 0)
    assert [queue.wanted(now * MS, 25 * MS) for now in (0, 175)] == [np.float32(0.125), np.float32(0.25)]


def test_a_chunk_that_cannot_be_used_is_refused_whole() -> None:
    queue = ChunkQueue(arm())
    for bad in (chunk(0, np.nan), chunk(np.inf), np.zeros((0, 2)), np.zeros((3, 3)), np.zeros(2)):
        with pytest.raises(ActionRefusedError, match="the whole chunk is refused"):
            queue.add(bad, 0, 0)
    with pytest.raises(LateChunkError, match=r"ended 10\.0 ms ago"):
        queue.add(chunk(0, 1), 0, 210 * MS)
    with pytest.raises(StaleObservationError, match="one monotonic clock"):
        queue.add(chunk(0, 1), 10 * MS, 0)
    assert queue.wanted(0, MS) is None
    queue.add(chunk(0, 1), 0, 0)
    queue.clear()
    assert queue.wanted(0, MS) is None
