import numpy as np
import pytest

from saccade.export.lowering.hadamard import hadamard, rotation

PUBLISHED = (720, 896, 1024)
"""Widths of SmolVLA's expert, Qwen2.5-0.5B and Gemma's expert; most others are such a width, doubled."""


@pytest.mark.parametrize("order", [1, 2, 4, 12, 20, 28, 36, 44, 60, 160, 240])
def test_rows_of_one_and_minus_one_are_orthogonal(order: int) -> None:
    matrix = hadamard(order)
    assert matrix is not None
    np.testing.assert_array_equal(np.abs(matrix), np.ones((order, order)))
    np.testing.assert_array_equal(matrix @ matrix.T, order * np.eye(order))


@pytest.mark.parametrize("order", [0, 3, 6, 18, 92])
def test_where_none_is_known_there_is_none(order: int) -> None:
    assert hadamard(order) is None and (order == 0 or rotation(order) is None)


@pytest.mark.parametrize("width", PUBLISHED)
def test_an_outlier_of_one_channel_is_spread_over_all(width: int) -> None:
    turn = rotation(width)
    assert turn is not None
    row = np.zeros(width)
    row[width // 3] = 100.0
    np.testing.assert_allclose(np.abs(row @ turn), 100 / np.sqrt(width))
    np.testing.assert_allclose(row @ turn @ turn.T, row, atol=1e-10)


def test_a_seed_says_which_rotation() -> None:
    first, again, other = rotation(24, 1), rotation(24, 1), rotation(24, 2)
    assert first is not None and again is not None and other is not None
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
