"""vtc_cls ranks patches by the class token's attention over the later vision blocks."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saccade.export.steps.policy_checks import model_shape
from saccade.policies.base import Grid, ModelShape, TowerShape
from saccade.policies.conformance import TokenPolicyConformance
from saccade.policies.methods.vtc_cls import VtcCls
from saccade.policies.registry import build_policy
from saccade.policies.signals import VisionAttention, VisionRows
from saccade.policies.testing.dry_run import GRID, ONE_TOWER, SHAPE, draw_scene, play
from saccade.proto.errors import PolicyError
from tests.export.samples import observation
from tests.policies import oracles
from tests.policies.deep_model import CLASS_TOWER, Recorded, attention_over_patches, deep_model

WILD = st.sampled_from([0.0, 0.1, 0.2, float("nan")])


class TestVtcCls(TokenPolicyConformance):
    policy_name = "vtc_cls"


class TestVtcClsOfAllViewsTogetherWithoutClassToken(TokenPolicyConformance):
    policy_name = "vtc_cls"
    policy_options = {"budget": "joint", "rows": "patches", "first_block": 0}
    shape = ONE_TOWER


class TestVtcClsWithoutSinks(TokenPolicyConformance):
    policy_name = "vtc_cls"
    policy_options = {"exclude_sinks": 0.02}


def vtc(shape: ModelShape = SHAPE, **options: object) -> VtcCls:
    policy = build_policy("vtc_cls", options, shape)
    assert isinstance(policy, VtcCls)
    return policy


@given(
    values=st.lists(WILD, min_size=80, max_size=80), keep=st.integers(1, 39), views=st.sampled_from([1, 2, 4])
)
def test_selection_equals_the_oracle_on_each_view(values: list[float], keep: int, views: int) -> None:
    policy, grid, size = vtc(), Grid(views, 1, 40 // views), 40 // views
    scene = draw_scene(policy, 0, batch=2, grid=grid)
    scene.signals[0].copy_(torch.tensor(values).reshape(2, 40))
    kept = play(policy, scene, {}, keep, grid).kept
    for robot in range(2):
        wanted: list[int] = []
        for view in range(views):
            share = keep // views + (view < keep % views)
            part = scene.signals[0][robot, view * size : (view + 1) * size].numpy()
            wanted += [view * size + token for token in oracles.top_k(part, share)]
        assert kept[robot].tolist() == wanted


@given(seed=st.integers(0, 10_000), keep=st.integers(1, GRID.tokens - 1))
def test_one_ranking_of_all_views_equals_the_oracle(seed: int, keep: int) -> None:
    policy = vtc(budget="joint")
    scene = draw_scene(policy, seed)
    kept = play(policy, scene, {}, keep).kept[0].tolist()
    assert kept == oracles.top_k(scene.signals[0][0].numpy(), keep)


@pytest.mark.parametrize(("blocks", "first"), [(23, 16), (12, 8), (26, 18), (6, 4), (4, 3), (2, 1), (1, 0)])
def test_reads_the_papers_blocks(blocks: int, first: int) -> None:
    policy = vtc(ModelShape(32, GRID, (TowerShape(blocks, True),)))
    signal = VisionAttention(VisionRows.CLASS, tuple(range(first, blocks)), 0)
    assert policy.cuts[0].signals == (signal,)
    assert policy.config.first_block == first


def test_a_tower_without_class_token_gives_the_attention_that_patches_receive() -> None:
    policy = vtc(ModelShape(32, GRID, (TowerShape(3, True), TowerShape(6, False))), tower=1)
    assert policy.cuts[0].signals == (VisionAttention(VisionRows.PATCHES, (4, 5), 1),)
    assert policy.config.rows == "patches"


@pytest.mark.parametrize(("tower", "row"), [(CLASS_TOWER, 0), (0, None)])
def test_placed_in_a_model_it_sees_the_mean_over_blocks(tower: int, row: int | None) -> None:
    model, images = deep_model(), observation(deep_model(), batch=2)
    recorded = Recorded(model, vtc(model_shape(model), tower=tower, first_block=2), 11)
    out = recorded.run(images)
    ((inputs, _),) = recorded.seen
    blocks = [attention_over_patches(model.towers[tower], images[0], block, row) for block in (2, 3)]
    by_hand = ((blocks[0] + blocks[1]) / 2).reshape(2, 32)
    torch.testing.assert_close(inputs.signals[0], by_hand, atol=1e-5, rtol=1e-4)
    assert out.kept.shape == (2, 11)
    for robot in range(2):
        first, second = (
            oracles.top_k(inputs.signals[0][robot, part].numpy(), count)
            for part, count in ((slice(0, 16), 6), (slice(16, 32), 5))
        )
        assert out.kept[robot].tolist() == [*first, *(16 + token for token in second)]
    assert torch.isfinite(out.actions).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"first_block": 4}, r"'first_block' must be in 0\.\.3 for a tower that runs 4 blocks, found 4"),
        ({"first_block": -1}, r"'first_block' must be in 0\.\.3"),
        ({"tower": -1}, r"'tower' must be in 0\.\.1"),
        ({"tower": 0, "rows": "class"}, "'rows' must be 'patches' where tower 0 has no class token"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        build_policy("vtc_cls", options, SHAPE)
