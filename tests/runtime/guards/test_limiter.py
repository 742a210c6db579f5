import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from saccade.proto.errors import ActionRefusedError
from saccade.proto.manifest import LimitsSpec
from saccade.runtime.guards.limiter import Limiter

LIMITS = LimitsSpec(low=(-1.0, 0.0), high=(1.0, 1.0), max_change=(0.5, 1.0))
LIMITER = Limiter(LIMITS, ("dx", "gripper"))
F32 = np.float32


def test_what_is_within_the_limits_passes_unchanged() -> None:
    actions = np.array([[0, 0], [0.5, 1], [0.25, 0]], F32)
    limited, clamped = LIMITER.limit(actions)
    np.testing.assert_array_equal(limited, actions)
    assert clamped == 0


def test_a_little_outside_is_clamped_and_counted() -> None:
    limited, clamped = LIMITER.limit(np.array([[1.5, -0.2], [0.9, 0.5]], F32))
    np.testing.assert_allclose(limited, [[1, 0], [0.9, 0.5]])
    assert clamped == 2


def test_a_fast_change_is_slowed_down_step_by_step() -> None:
    limited, clamped = LIMITER.limit(np.array([[0, 0], [1, 0], [1, 0], [1, 0]], F32))
    np.testing.assert_allclose(limited[:, 0], [0, 0.5, 1, 1])
    assert clamped == 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3.1, -3.1, 1e30])
def test_far_outside_refuses_the_whole_chunk(value: float) -> None:
    actions = np.zeros((4, 2), F32)
    actions[2, 0] = value
    with pytest.raises(
        ActionRefusedError, match=r"action 'dx' at control step 2 .* within -3\.\.3, found .* refused"
    ):
        LIMITER.limit(actions)


def test_what_is_not_finite_is_refused_even_without_limits() -> None:
    unlimited = Limiter(LimitsSpec((-1e39, 0.0), (1e39, 1.0), (1e39, 1.0)), ("dx", "gripper"))
    assert unlimited.limit(np.full((1, 2), 0.5, F32))[1] == 0
    for value in (np.inf, -np.inf, np.nan):
        with pytest.raises(ActionRefusedError):
            unlimited.limit(np.array([[value, 0]], F32))


_NEAR = st.floats(-4, 4, width=32) | st.sampled_from([np.nan, np.inf, -np.inf, 0.0, 1.0, -1.0])


_CHUNKS = st.one_of(
    npst.arrays(F32, (6, 2)),
    npst.arrays(F32, (6, 2), elements=st.floats(-1, 2, width=32)),
    npst.arrays(F32, (6, 2), elements=_NEAR),
)


@given(_CHUNKS)
def test_whatever_comes_out_is_within_the_limits(actions: np.ndarray) -> None:  # type: ignore[type-arg]
    try:
        limited, clamped = LIMITER.limit(actions)
    except ActionRefusedError:
        return
    assert (limited >= LIMITS.low).all()
    assert (limited <= LIMITS.high).all()
    assert (np.abs(np.diff(limited, axis=0)) <= np.array(LIMITS.max_change) + 1e-6).all()
    assert clamped == np.count_nonzero(limited != actions)
