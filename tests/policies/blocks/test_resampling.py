"""Resampling as a matrix equals torch's own operators, and the merge equals its oracle."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from saccade.policies.base import Grid
from saccade.policies.blocks.resampling import SIDES, level_matrix, level_positions, merged_pairs, nearest
from tests.policies import oracles_quota as oracles

sizes_of = st.integers(1, 9).flatmap(lambda size: st.tuples(st.just(size), st.integers(1, size)))


@given(rows=sizes_of, columns=sizes_of)
def test_bilinear_and_adaptive_are_torchs(rows: tuple[int, int], columns: tuple[int, int]) -> None:
    grid, (height, width) = Grid(3, rows[0], columns[0]), (rows[1], columns[1])
    image = torch.randn(1, 5, grid.rows, grid.columns, generator=torch.Generator().manual_seed(0))
    flat = image.flatten(2).transpose(1, 2)
    expected = {
        "bilinear": torch.nn.functional.interpolate(
            image, (height, width), mode="bilinear", align_corners=False
        ),
        "adaptive": torch.nn.functional.adaptive_avg_pool2d(image, (height, width)),
    }
    for mode, output in expected.items():
        found = level_matrix(mode, grid, height, width) @ flat
        torch.testing.assert_close(found, output.flatten(2).transpose(1, 2), rtol=1e-4, atol=1e-5)


@given(sizes_of, st.sampled_from(sorted(SIDES)))
def test_sides_equal_the_oracle(sizes: tuple[int, int], mode: str) -> None:
    size, count = sizes
    matrix = SIDES[mode](size, count)
    expected = np.zeros((count, size))
    for index in range(count):
        for token, weight in oracles.side(mode, index, size, count).items():
            expected[index, token] = weight
    np.testing.assert_allclose(matrix, expected, atol=1e-9)


@given(sizes_of)
def test_positions_are_distinct_ascending_and_nearest(sizes: tuple[int, int]) -> None:
    size, count = sizes
    found = nearest(size, count)
    assert found == sorted(set(found)) and len(found) == count and found[-1] < size
    for index, token in enumerate(found):
        distance = abs(oracles.centre(index, size, count) - token)
        assert distance <= 0.5 and all(
            distance <= abs(oracles.centre(index, size, count) - t) for t in range(size)
        )


@pytest.mark.parametrize("mode", sorted(SIDES))
def test_the_whole_grid_is_left_as_it_is(mode: str) -> None:
    for grid in (Grid(2, 3, 4), Grid(2, 3, 4, newline=True)):
        matrix = level_matrix(mode, grid, 3, 4 - grid.newline)
        assert torch.equal(matrix, torch.eye(12))
        assert level_positions(grid, 3, 4 - grid.newline).tolist() == list(range(12))


@pytest.mark.parametrize("mode", sorted(SIDES))
def test_line_breaks_come_along(mode: str) -> None:
    grid = Grid(1, 5, 4, newline=True)
    matrix = level_matrix(mode, grid, 2, 2)
    assert level_positions(grid, 2, 2).tolist() == [4, 6, 7, 12, 14, 15]
    assert matrix.shape == (6, 20)
    assert matrix[2].nonzero().tolist() == [[7]] and matrix[5].nonzero().tolist() == [[15]]
    patches = matrix[[0, 1, 3, 4]]
    assert (patches[:, 3::4] == 0).all()  # no patch is made of line breaks
    torch.testing.assert_close(matrix.sum(dim=1), torch.ones(6))


@given(
    embeddings=hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 14), st.just(3)),
        elements=st.sampled_from([-1.0, 0.0, 0.5, 1.0, np.nan, np.inf]),
    ),
    data=st.data(),
)
def test_merging_of_ties_and_broken_tokens_equals_the_oracle(
    embeddings: np.ndarray, data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, len(embeddings)))
    kept, mix = merged_pairs(torch.from_numpy(embeddings)[None], count)
    groups = oracles.merged(embeddings, count)
    assert kept[0].tolist() == sorted(groups)
    for slot, position in enumerate(sorted(groups)):
        members = groups[position]
        assert mix[0, slot].nonzero().flatten().tolist() == sorted(members)
        np.testing.assert_allclose(mix[0, slot, members].numpy(), 1.0 / len(members), rtol=1e-5)


@given(seed=st.integers(0, 10_000), tokens=st.integers(1, 30), data=st.data())
def test_merging_equals_the_oracle(seed: int, tokens: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, tokens))
    embeddings = torch.randn(2, tokens, 8, generator=torch.Generator().manual_seed(seed))
    kept, mix = merged_pairs(embeddings, count)
    for robot in range(2):
        groups = oracles.merged(embeddings[robot].numpy(), count)
        assert kept[robot].tolist() == sorted(groups)
        assert sorted(token for members in groups.values() for token in members) == list(range(tokens))
        for slot, position in enumerate(sorted(groups)):
            assert mix[robot, slot].nonzero().flatten().tolist() == sorted(groups[position])


def test_the_most_similar_pair_merges_first() -> None:
    embeddings = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.9, 0.1], [1.0, 0.05]]])
    kept, mix = merged_pairs(embeddings, 3)
    assert kept.tolist() == [[1, 2, 3]]  # 0 goes into 3: of the two sets {0, 2} and {1, 3}
    torch.testing.assert_close(mix[0, 2], torch.tensor([0.5, 0.0, 0.0, 0.5]))
