"""visionzip keeps dominant patches and merges the others into contextual tokens, as its paper says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saccade.export.steps.policy_checks import model_shape
from saccade.export.steps.survivors import take_survivors
from saccade.policies.base import Grid, ModelShape, Selection, TowerShape
from saccade.policies.conformance import TokenPolicyConformance
from saccade.policies.methods.visionzip import VisionZip, every_nth
from saccade.policies.registry import build_policy
from saccade.policies.signals import VisionAttention, VisionKeys, VisionRows
from saccade.policies.testing.dry_run import GRID, ONE_TOWER, SHAPE, Scene, draw_scene, play
from saccade.proto.errors import PolicyError
from tests.export.samples import observation
from tests.policies import oracles
from tests.policies.deep_model import (
    CLASS_TOWER,
    Recorded,
    attention_over_patches,
    block_inputs,
    deep_model,
)
from tests.policies.oracles_visionzip import visionzip

ONE_VIEW = Grid(1, 5, 8)


class TestVisionZip(TokenPolicyConformance):
    policy_name = "visionzip"


class TestVisionZipMeanOfAllViewsTogether(TokenPolicyConformance):
    policy_name = "visionzip"
    policy_options = {"contextual": 0.4, "norm": "mean", "budget": "joint", "tower": 0}


class TestVisionZipWithoutContextualTokens(TokenPolicyConformance):
    policy_name = "visionzip"
    policy_options = {"contextual": 0.0}
    shape = ONE_TOWER


def zipper(shape: ModelShape = SHAPE, **options: object) -> VisionZip:
    policy = build_policy("visionzip", options, shape)
    assert isinstance(policy, VisionZip)
    return policy


def counts(keep: int, share: float) -> tuple[int, int]:
    """Dominant and contextual tokens of one image."""
    contextual = min(round(share * keep), max(keep - 1, 0))
    return keep - contextual, contextual


def mix_of(selection: Selection, robot: int) -> dict[int, dict[int, float]]:
    """Survivor to what it is made of, token to weight."""
    assert selection.mix is not None
    rows = selection.mix[robot].numpy()
    return {
        survivor: {int(token): float(row[token]) for token in np.flatnonzero(row)}
        for survivor, row in zip(selection.kept[robot].tolist(), rows, strict=True)
    }


def expected(
    scene: Scene, robot: int, keep: int, share: float, norm: str, views: int
) -> dict[int, dict[int, float]]:
    """The oracle on each of ``views`` equal parts of the observation."""
    size, made_of = scene.embeddings.shape[1] // views, {}
    attention, keys = (signal[robot].numpy() for signal in scene.signals)
    for view in range(views):
        budget = keep // views + (view < keep % views)
        if budget == 0:
            continue
        part = slice(view * size, (view + 1) * size)
        _, rows = visionzip(attention[part], keys[part], *counts(budget, share), norm)
        made_of |= {
            view * size + survivor: {view * size + token: weight for token, weight in row.items()}
            for survivor, row in rows.items()
        }
    return dict(sorted(made_of.items()))


def check(policy: VisionZip, scene: Scene, keep: int, grid: Grid = GRID) -> None:
    config, views = policy.config, grid.views if policy.config.budget == "per_view" else 1
    played = play(policy, scene, {}, keep, grid)
    (selection,) = played.selections
    for robot in range(scene.embeddings.shape[0]):
        wanted = expected(scene, robot, keep, config.contextual, config.norm, views)
        assert selection.kept[robot].tolist() == list(wanted)
        if selection.mix is None:
            assert all(row == {survivor: 1.0} for survivor, row in wanted.items())
            continue
        found = mix_of(selection, robot)
        for survivor, row in wanted.items():
            assert found[survivor] == pytest.approx(row)


@given(
    seed=st.integers(0, 10_000),
    keep=st.integers(1, GRID.tokens - 1),
    share=st.sampled_from([10 / 64, 0.5, 0.9]),
    norm=st.sampled_from(["sum", "mean"]),
    budget=st.sampled_from(["per_view", "joint"]),
)
def test_selection_and_mix_equal_the_oracle(
    seed: int, keep: int, share: float, norm: str, budget: str
) -> None:
    policy = zipper(contextual=share, norm=norm, budget=budget)
    check(policy, draw_scene(policy, seed, batch=2), keep)


@given(seed=st.integers(0, 10_000), keep=st.integers(1, ONE_VIEW.tokens - 1))
def test_one_view_equals_the_oracle_with_ties_everywhere(seed: int, keep: int) -> None:
    """Few distinct attentions and keys: duplicates, zero vectors, equal similarities."""
    policy = zipper(contextual=0.3)
    scene = draw_scene(policy, seed, grid=ONE_VIEW)
    random = torch.Generator().manual_seed(seed)
    attention = torch.randint(0, 3, scene.signals[0].shape, generator=random) / 4
    keys = torch.randint(-1, 2, scene.signals[1].shape, generator=random).float()
    keys[..., 3:] = 0.0
    scene = Scene((attention, keys), (), scene.embeddings, scene.text, scene.text_mask, scene.present)
    check(policy, scene, keep, ONE_VIEW)


@given(seed=st.integers(0, 10_000), keep=st.integers(2, GRID.tokens - 1))
def test_broken_attention_is_kept_last_and_broken_keys_join_nobody(seed: int, keep: int) -> None:
    policy = zipper(contextual=0.3)
    scene = draw_scene(policy, seed)
    random = torch.Generator().manual_seed(seed)
    scene.signals[0][torch.rand(1, GRID.tokens, generator=random) < 0.3] = float("nan")
    scene.signals[1][torch.rand(1, GRID.tokens, generator=random) < 0.3] = float("nan")
    check(policy, scene, keep)


def test_equal_tokens_keep_the_first_and_merge_into_the_first_target() -> None:
    policy = zipper(contextual=0.5)
    scene = draw_scene(policy, 0, grid=Grid(1, 2, 5))
    scene.signals[0].fill_(0.1)
    scene.signals[1].fill_(0.7)
    (selection,) = play(policy, scene, {}, 4, Grid(1, 2, 5)).selections
    # Dominant 0 and 1; of the eight others every fourth is a target.
    assert selection.kept.tolist() == [[0, 1, 2, 6]]
    assert mix_of(selection, 0) == {
        0: {0: 1.0},
        1: {1: 1.0},
        2: {2: 1.0, **dict.fromkeys([3, 4, 5, 7, 8, 9], pytest.approx(1 / 6))},
        6: {6: 1.0},
    }


@given(remaining=st.integers(1, 600), data=st.data())
def test_targets_are_every_nth_that_remains(remaining: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, remaining))
    mask = np.zeros(remaining + 5, dtype=bool)
    mask[np.random.default_rng(remaining).choice(remaining + 5, remaining, replace=False)] = True
    wanted = np.flatnonzero(mask)[:: remaining // count][:count].tolist() if count else []
    found = every_nth(torch.from_numpy(mask)[None], [count])[0]
    assert found.nonzero().flatten().tolist() == wanted


def test_the_published_setting_is_54_and_10_of_64() -> None:
    policy, grid = zipper(budget="joint"), Grid(1, 24, 24)
    scene = draw_scene(policy, 1, grid=grid)
    (selection,) = play(policy, scene, {}, 64, grid).selections
    merged = [survivor for survivor, row in mix_of(selection, 0).items() if len(row) > 1]
    assert 0 < len(merged) <= 10
    alone = sorted(set(selection.kept[0].tolist()) - set(merged))
    assert set(oracles.top_k(scene.signals[0][0].numpy(), 54)) <= set(alone)


def test_the_mean_is_half_of_the_sum() -> None:
    scene = draw_scene(zipper(), 3)
    long, short = (
        play(zipper(norm=norm, contextual=0.5), scene, {}, 12).selections[0] for norm in ("sum", "mean")
    )
    assert long.mix is not None
    assert short.mix is not None
    torch.testing.assert_close(short.mix.sum(dim=2), torch.ones(1, 12))
    merged = (long.mix > 0).sum(dim=2) > 1
    torch.testing.assert_close(long.mix.sum(dim=2)[merged], torch.full((int(merged.sum()),), 2.0))
    torch.testing.assert_close(0.5 * long.mix[merged], short.mix[merged])


def test_without_contextual_tokens_it_is_the_top_k_and_merges_nothing() -> None:
    policy = zipper(contextual=0.0)
    scene = draw_scene(policy, 4)
    (selection,) = play(policy, scene, {}, 8).selections
    assert not policy.merges
    assert selection.mix is None
    per_view = [oracles.top_k(scene.signals[0][0, part].numpy(), 4) for part in (slice(0, 20), slice(20, 40))]
    assert selection.kept[0].tolist() == [*per_view[0], *(20 + token for token in per_view[1])]


@pytest.mark.parametrize(
    ("towers", "tower", "rows", "block"),
    [
        ((TowerShape(23, True),), 0, VisionRows.CLASS, 22),
        ((TowerShape(26, False),), 0, VisionRows.PATCHES, 25),
        ((TowerShape(26, False), TowerShape(23, True)), 1, VisionRows.CLASS, 22),
        ((TowerShape(23, True), TowerShape(26, False)), 0, VisionRows.CLASS, 22),
        ((TowerShape(4, False), TowerShape(6, False)), 1, VisionRows.PATCHES, 5),
    ],
)
def test_reads_the_last_block_of_the_first_tower_with_a_class_token(
    towers: tuple[TowerShape, ...], tower: int, rows: VisionRows, block: int
) -> None:
    policy = zipper(ModelShape(32, GRID, towers))
    keys = VisionKeys(block, tower, mean_of_heads=True)
    assert policy.cuts[0].signals == (VisionAttention(rows, (block,), tower), keys)
    assert (policy.config.tower, policy.config.rows) == (tower, rows.value)


def test_placed_in_a_model_it_sees_the_read_block_and_merges_features() -> None:
    model, images = deep_model(), observation(deep_model(), batch=2)
    policy = zipper(model_shape(model), contextual=0.5)
    recorded = Recorded(model, policy, 12)
    out = recorded.run(images)
    ((inputs, selection),) = recorded.seen
    attention, keys = inputs.signals
    tower = model.towers[CLASS_TOWER]
    assert len(tower.blocks) == 4
    by_hand = attention_over_patches(tower, images[0], block=3, row=0)
    torch.testing.assert_close(attention, by_hand.reshape(2, 32), atol=1e-5, rtol=1e-4)
    block = tower.blocks[3]
    key = block.attn.qkv(block.norm1(block_inputs(tower, images[0])[3])).chunk(3, dim=-1)[1]
    heads = block.attn.heads
    by_head = key[:, 3:].reshape(4, 16, heads, -1)
    torch.testing.assert_close(keys, by_head.mean(dim=2).reshape(2, 32, -1), atol=1e-5, rtol=1e-4)
    # What survives: features of the towers, mixed, at the places of dominant tokens and targets.
    features = model.visual_tokens(images[0])
    torch.testing.assert_close(inputs.embeddings, features, atol=1e-5, rtol=1e-4)
    assert out.kept.shape == (2, 12)
    assert torch.equal(out.kept, selection.kept)
    for robot in range(2):
        wanted = expected(Scene((attention, keys), (), features, *[features] * 3), robot, 12, 0.5, "sum", 2)
        assert out.kept[robot].tolist() == list(wanted)
        survivors = take_survivors(features, selection)[robot]
        for place, row in enumerate(wanted.values()):
            value = sum(weight * features[robot, token] for token, weight in row.items())
            torch.testing.assert_close(survivors[place], value, atol=1e-5, rtol=1e-4)
        carried_by = {token: survivor for survivor, row in wanted.items() for token in row}
        assert out.fate[robot].tolist() == [carried_by[token] for token in range(32)]
    assert out.actions.shape == (2, 2, 3)
    assert torch.isfinite(out.actions).all()


def test_placed_in_a_model_without_class_token_it_reads_all_patches() -> None:
    model, images = deep_model(), observation(deep_model())
    recorded = Recorded(model, zipper(model_shape(model), tower=0), 9)
    recorded.run(images)
    by_hand = attention_over_patches(model.towers[0], images[0], block=3, row=None)
    torch.testing.assert_close(recorded.seen[0][0].signals[0], by_hand.reshape(1, 32), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"contextual": 1.0}, "'contextual' must be at least 0 and below 1, found 1.0"),
        ({"contextual": -0.1}, "'contextual' must be at least 0"),
        ({"tower": 2}, r"'tower' must be in 0\.\.1 for a model of 2 vision towers, found 2"),
        ({"tower": 0, "rows": "class"}, "'rows' must be 'patches' where tower 0 has no class token"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        build_policy("visionzip", options, SHAPE)
