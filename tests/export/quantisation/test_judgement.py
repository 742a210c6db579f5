from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from saccade.export.quantisation.judgement import ActionRuler, worst
from saccade.export.quantisation.trajectory import StepRecord
from saccade.proto.scales import MeanStdScale, RangeScale

CHUNK, DIM = 4, 3


class Elsewhere:
    """Runs a lowering whose actions are off by what the test says; it stands in the place of ONNX Runtime."""

    def __init__(self, off: NDArray[np.float64], kept: list[int]) -> None:
        self._off, self._kept = off, kept

    def run(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return {"actions": (inputs["actions"] + self._off)[None], "kept": np.array([self._kept])}


def records(count: int) -> list[StepRecord]:
    rng = np.random.default_rng(0)
    drawn = [rng.normal(size=(CHUNK, DIM)).astype(np.float32) for _ in range(count)]
    return [StepRecord({"actions": actions}, actions, np.array([1, 2, 3, 4])) for actions in drawn]


def test_errors_are_told_in_units_and_in_shares_of_the_range() -> None:
    scale = RangeScale(np.float32([0, -2, 5]), np.float32([0.1, 2, 5]), np.array([True, True, True]))
    off = np.zeros((CHUNK, DIM))
    off[0], off[1] = [0.2, 0.02, 0.5], [-0.2, -0.02, 0]
    found = ActionRuler(scale).judge(records(5), Elsewhere(off, [1, 2, 3, 9]))  # type: ignore[arg-type]
    np.testing.assert_allclose(found.max_error[:2], [0.2 * 0.05, 0.02 * 2], rtol=1e-4)
    np.testing.assert_allclose(found.mean_error[:2], [0.2 * 0.05 / 2, 0.02 * 2 / 2], rtol=1e-4)
    np.testing.assert_allclose(found.share, [0.1 / np.sqrt(2), 0.01 / np.sqrt(2), 0], rtol=1e-4)
    assert found.worst_share == found.share[0] == worst({"full": found})
    assert (found.overlap_min, found.same_kept, found.frames) == (0.75, 0.0, 5)


def test_equal_actions_are_no_error() -> None:
    scale = MeanStdScale(np.zeros(DIM, np.float32), np.ones(DIM, np.float32))
    found = ActionRuler(scale).judge(records(2), Elsewhere(np.zeros((CHUNK, DIM)), [1, 2, 3, 4]))  # type: ignore[arg-type]
    assert found.worst_share == 0 and found.same_kept == 1


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_what_is_not_finite_is_as_wrong_as_can_be(wrong: float) -> None:
    scale = RangeScale(np.zeros(DIM, np.float32), np.ones(DIM, np.float32), np.ones(DIM, bool))
    off = np.zeros((CHUNK, DIM))
    off[2, 1] = wrong
    found = ActionRuler(scale).judge(records(2), Elsewhere(off, [1, 2, 3, 4]))  # type: ignore[arg-type]
    assert found.worst_share == np.inf and found.max_error == [np.inf] * DIM
