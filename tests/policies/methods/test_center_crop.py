"""center_crop keeps the same square around the middle of each view, whatever is in it."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from saccade.export.steps.policy_checks import model_shape
from saccade.policies.base import Grid
from saccade.policies.conformance import TokenPolicyConformance
from saccade.policies.methods.center_crop import closeness_to_middle
from saccade.policies.registry import build_policy
from saccade.policies.testing.dry_run import SHAPE, draw_scene, play
from tests.export.samples import observation
from tests.policies import oracles
from tests.policies.deep_model import Recorded, deep_model


class TestCenterCrop(TokenPolicyConformance):
    policy_name = "center_crop"


def nearest(grid: Grid, keep: int) -> list[int]:
    """View by view the tokens with the smallest Chebyshev distance from the middle, ties to the lowest index."""
    kept: list[int] = []
    for view in range(grid.views):
        share = keep // grid.views + (view < keep % grid.views)
        distance = []
        for token in range(grid.per_view):
            row, column = divmod(token, grid.columns)
            distance.append(max(abs(row - (grid.rows - 1) / 2), abs(column - (grid.columns - 1) / 2)))
        kept += [view * grid.per_view + token for token in oracles.top_k(-np.array(distance), share)]
    return kept


@given(views=st.integers(1, 3), rows=st.integers(1, 6), columns=st.integers(1, 6), data=st.data())
def test_selection_equals_the_oracle(views: int, rows: int, columns: int, data: st.DataObject) -> None:
    grid = Grid(views, rows, columns)
    keep = data.draw(st.integers(1, grid.tokens))
    policy = build_policy("center_crop", {}, SHAPE)
    kept = play(policy, draw_scene(policy, 0, batch=2, grid=grid), {}, keep, grid).kept
    assert kept.tolist() == [nearest(grid, keep)] * 2


def test_a_square_number_is_a_square_in_the_middle() -> None:
    policy, grid = build_policy("center_crop", {}, SHAPE), Grid(1, 6, 6)
    kept = play(policy, draw_scene(policy, 0, grid=grid), {}, 16, grid).kept[0].tolist()
    assert kept == [6 * row + column for row in range(1, 5) for column in range(1, 5)]


def test_a_line_break_is_no_part_of_the_picture() -> None:
    with_breaks = closeness_to_middle(Grid(2, 3, 5, newline=True)).reshape(2, 3, 5)
    without = closeness_to_middle(Grid(2, 3, 4)).reshape(2, 3, 4)
    assert torch.equal(with_breaks[:, :, :4], without)
    assert (with_breaks[:, :, 4] < without.min()).all()


def test_placed_in_a_model_it_keeps_the_middle_whatever_is_there() -> None:
    model = deep_model()
    policy = build_policy("center_crop", {}, model_shape(model))
    recorded = Recorded(model, policy, 8)
    middle = [5, 6, 9, 10]
    for seed in range(2):
        out = recorded.run(observation(model, batch=2, seed=seed))
        assert out.kept.tolist() == [[*middle, *(16 + token for token in middle)]] * 2
        assert torch.isfinite(out.actions).all()
