"""quota gives more tokens to views that score higher, in both fixed-shape forms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saccade.export.families.openvla_oft.model import OpenVlaOft, initialise
from saccade.export.models.attention_rows import attention_received
from saccade.export.steps.policy_checks import model_shape
from saccade.export.steps.selecting_module import initial_state
from saccade.export.steps.single_pass_step import SinglePassStep
from saccade.policies.base import Carry, Grid, Selection, SelectionInputs
from saccade.policies.blocks.level_tables import level_tables
from saccade.policies.blocks.view_budgets import view_shares
from saccade.policies.conformance import TokenPolicyConformance
from saccade.policies.methods.quota import Quota, QuotaConfig, shares_of
from saccade.policies.registry import build_policy
from saccade.policies.signals import AttentionAhead, QueryRows, ViewScores, VisionAttention, VisionRows
from saccade.policies.testing.dry_run import GRID, SHAPE, Scene, draw_scene, play
from saccade.proto.errors import PolicyError
from tests.export.samples import CONFIG, observation
from tests.policies import oracles_quota as oracles

LINES = Grid(3, 3, 4, newline=True)
ONE_VIEW = Grid(1, 5, 6)
AHEAD = AttentionAhead(QueryRows.TEXT)
RECEIVED = VisionAttention(VisionRows.PATCHES, (3,), 1)


class TestQuota(TokenPolicyConformance):
    policy_name = "quota"


class TestQuotaMergeByAttention(TokenPolicyConformance):
    policy_name = "quota"
    policy_options: ClassVar = {"resample": "merge", "scores": "attention", "spread": 0.3, "tables": 2}


class TestQuotaEven(TokenPolicyConformance):
    policy_name = "quota"
    policy_options: ClassVar = {"resample": "even", "spread": 1.0}


class TestQuotaFlat(TokenPolicyConformance):
    policy_name = "quota"
    policy_options: ClassVar = {"form": "flat"}


class TestQuotaFlatText(TokenPolicyConformance):
    policy_name = "quota"
    policy_options: ClassVar = {"form": "flat", "scores": "attention", "rank_by": "text", "exponent": 0.5}


def quota(grid: Grid = GRID, **options: object) -> Quota:
    policy = build_policy("quota", options, replace(SHAPE, grid=grid))
    assert isinstance(policy, Quota)
    return policy


def mean_by_view(attention: np.ndarray, grid: Grid) -> np.ndarray:
    """Mean over the patches of each view."""
    columns = grid.columns - int(grid.newline)
    return np.array(
        [
            np.mean(
                [attention[v * grid.per_view + i] for i in range(grid.per_view) if i % grid.columns < columns]
            )
            for v in range(grid.views)
        ]
    )


def tables_of(policy: Quota, keep: int, grid: Grid) -> tuple[tuple[tuple[int, int], ...], ...]:
    """From all alike to the steepest, each the square root of the next."""
    spread, tables = policy.config.spread, policy.config.tables
    ratios = [1.0] + [spread ** (1 / 2**root) for root in range(tables - 2, -1, -1)]
    return level_tables(policy.schedule(keep)[0], grid, tuple(ratios))


def view_scores(policy: Quota, scene: Scene, robot: int, grid: Grid) -> np.ndarray:
    signal = scene.signals[0][robot].numpy()
    return mean_by_view(signal, grid) if policy.config.scores == "attention" else signal


grids = st.sampled_from([GRID, LINES, ONE_VIEW, Grid(4, 3, 3)])
modes = st.sampled_from(["bilinear", "adaptive", "even", "merge"])


@given(
    seed=st.integers(0, 10_000),
    grid=grids,
    mode=modes,
    scores=st.sampled_from(["task", "attention"]),
    spread=st.sampled_from([0.1, 0.5, 1.0]),
    data=st.data(),
)
def test_levels_equal_the_oracle(
    seed: int, grid: Grid, mode: str, scores: str, spread: float, data: st.DataObject
) -> None:
    keep = data.draw(st.integers(1 + grid.newline, grid.tokens - 1))
    policy = quota(grid, resample=mode, scores=scores, spread=spread)
    scene = draw_scene(policy, seed, batch=2, grid=grid)
    played = play(policy, scene, {}, keep, grid)
    tables = tables_of(policy, keep, grid)
    (selection,) = played.selections
    for robot in range(2):
        ranked = view_scores(policy, scene, robot, grid)
        sizes = oracles.table_of(ranked, policy.config.exponent, tables, int(grid.newline))
        if mode == "merge":
            kept, mix = oracles.merged_levels(ranked, scene.embeddings[robot].numpy(), grid, sizes)
        else:
            kept, mix = oracles.levels(ranked, grid, sizes, mode)
        assert played.kept[robot].tolist() == kept and len(kept) == policy.schedule(keep)[0] <= keep
        if mode == "even":
            assert selection.mix is None and not policy.merges
        else:
            assert policy.merges
            np.testing.assert_allclose(selection.mix[robot].numpy(), mix, rtol=1e-5, atol=1e-6)


@given(
    seed=st.integers(0, 10_000),
    grid=grids,
    scores=st.sampled_from(["task", "attention"]),
    rank_by=st.sampled_from(["received", "text"]),
    exponent=st.sampled_from([0.0, 1.0, 2.0, 3.5]),
    data=st.data(),
)
def test_flat_equals_the_oracle(
    seed: int, grid: Grid, scores: str, rank_by: str, exponent: float, data: st.DataObject
) -> None:
    patches = grid.views * grid.rows * (grid.columns - grid.newline)
    keep = data.draw(st.integers(1, patches))
    policy = quota(grid, form="flat", scores=scores, rank_by=rank_by, exponent=exponent)
    scene = draw_scene(policy, seed, batch=2, grid=grid)
    kept = play(policy, scene, {}, keep, grid).kept
    assert policy.schedule(keep) == (keep,)
    for robot in range(2):
        tokens = scene.signals[-1][robot].numpy().copy()
        if grid.newline:
            tokens[grid.columns - 1 :: grid.columns] = -1.0
        ranked = view_scores(policy, scene, robot, grid)
        assert kept[robot].tolist() == oracles.flat(ranked, tokens, grid, exponent, keep)


@pytest.mark.parametrize(
    ("scores", "counts"),
    [
        ([0.5, 0.5], [9, 9]), ([0.0, 0.0], [9, 9]), ([0.5, 0.49], [9, 9]), ([0.9, 0.6], [12, 6]),
        ([0.6, 0.9], [6, 12]), ([0.9, 0.1], [16, 2]), ([float("nan"), 0.1], [2, 16]),
    ],
)  # fmt: skip
def test_sizes_follow_the_shares_and_views_that_tie_are_alike(scores: list[float], counts: list[int]) -> None:
    policy = quota()
    scene = draw_scene(policy, 0)
    scene.signals[0].copy_(torch.tensor([scores]))
    kept = play(policy, scene, {}, 20).kept[0]
    assert [int(((kept // GRID.per_view) == view).sum()) for view in range(2)] == counts


def test_a_small_budget_leaves_views_out() -> None:
    policy = quota(Grid(4, 3, 3))
    scene = draw_scene(policy, 0, grid=Grid(4, 3, 3))
    scene.signals[0].copy_(torch.tensor([[0.1, 0.2, 0.9, 0.1]]))
    assert play(policy, scene, {}, 3, Grid(4, 3, 3)).kept.tolist() == [[18 + 1, 18 + 4, 18 + 7]]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=5), st.sampled_from([0.5, 1.0, 2.0, 4.0]))
def test_shares_in_the_graph_are_those_of_the_host(scores: list[float], exponent: float) -> None:
    scores = [round(score, 3) for score in scores]
    found = shares_of(torch.tensor([scores]), exponent)[0]
    np.testing.assert_allclose(found.numpy(), view_shares(scores, exponent=exponent), atol=1e-5)


def test_shares_of_wild_scores() -> None:
    scores = torch.tensor([[float("nan"), 1.0], [float("inf"), -1.0], [0.0, 0.0], [1e30, 1e30], [1e-9, 0.0]])
    expected = [[0.0, 1.0], [0.5, 0.5], [0.5, 0.5], [0.5, 0.5], [1.0, 0.0]]
    torch.testing.assert_close(shares_of(scores, 2.0), torch.tensor(expected))


@pytest.mark.parametrize(
    ("options", "signals"),
    [
        ({}, (ViewScores(),)),
        ({"scores": "attention"}, (AHEAD,)),
        ({"form": "flat"}, (ViewScores(), RECEIVED)),
        ({"form": "flat", "scores": "attention"}, (AHEAD, RECEIVED)),
        ({"form": "flat", "rank_by": "text"}, (ViewScores(), AHEAD)),
        ({"form": "flat", "rank_by": "text", "scores": "attention"}, (AHEAD,)),
        ({"form": "flat", "tower": 0}, (ViewScores(), VisionAttention(VisionRows.PATCHES, (5,), 0))),
    ],
)
def test_asks_for_no_more_than_it_reads(options: Mapping[str, object], signals: tuple[object, ...]) -> None:
    policy = quota(**options)
    assert [(cut.index, cut.signals) for cut in policy.cuts] == [(0, signals)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spread": 0.0}, "'spread' must be above 0 and at most 1"),
        ({"spread": 1.5}, "'spread' must be above 0 and at most 1"),
        ({"tables": 1}, r"'tables' must be in 2\.\.16"),
        ({"exponent": -1.0}, r"'exponent' must be in 0\.\.16"),
        ({"tower": 2}, r"'tower' must be in 0\.\.1"),
        ({"resample": "nearest"}, "'resample' of policy 'quota' must be one of 'bilinear'"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        quota(**options)


def test_a_budget_that_buys_nothing_is_refused() -> None:
    with pytest.raises(PolicyError, match="at least 2 tokens"):
        quota(LINES).schedule(1)


class Watching(Quota):
    """Remembers what it saw and chose."""

    seen: SelectionInputs
    chosen: Selection

    def select(self, inputs: SelectionInputs, carry: Carry, keep: int) -> Selection:
        self.seen, self.chosen = inputs, super().select(inputs, carry, keep)
        return self.chosen


def small_model() -> OpenVlaOft:
    """Two views of 3 x 3 patches, three vision blocks, three decoder layers."""
    tower = replace(CONFIG.towers[0], image_size=18, depth=3)
    return initialise(OpenVlaOft(replace(CONFIG, towers=(tower,))), 1).eval().requires_grad_(False)


@pytest.mark.parametrize("mode", ["bilinear", "adaptive", "even", "merge"])
def test_in_a_model_the_host_says_which_view_matters(mode: str) -> None:
    model = small_model()
    policy = Watching(QuotaConfig(resample=mode), model_shape(model))
    step, inputs = SinglePassStep(model, policy, 9), observation(model)
    (ones,) = initial_state(step)
    assert step.task_inputs == ("task.view_scores",) and ones.tolist() == [[1.0, 1.0]]
    # 8 of 9 tokens are 2 x 2 patches twice, or 3 x 2 and 2 x 1.
    for scores, counts in ((ones, (4, 4)), (torch.tensor([[0.1, 0.7]]), (2, 6))):
        actions, kept, *_ = step(*inputs, scores)
        assert torch.isfinite(actions).all() and kept.shape == (1, 8)
        assert ((kept < 9).sum().item(), (kept >= 9).sum().item()) == counts
        assert torch.equal(policy.seen.signals[0], scores)


def test_in_a_model_survivors_are_the_resampled_views() -> None:
    """A decoder handed the pooled features at those positions gives the same actions."""
    model = small_model()
    policy, inputs = Watching(QuotaConfig(resample="adaptive"), model_shape(model)), observation(model)
    actions, kept, fate = SinglePassStep(model, policy, 9)(*inputs, torch.tensor([[0.1, 0.7]]))
    images, proprio, ids, mask, positions = inputs
    features = model.embed_visual(model.visual_tokens(images))
    scene, wrist = (x.reshape(1, 3, 3, -1).permute(0, 3, 1, 2) for x in features.chunk(2, dim=1))
    pooled = [
        torch.nn.functional.adaptive_avg_pool2d(view, size).flatten(2).transpose(1, 2)
        for view, size in ((scene, (2, 1)), (wrist, (3, 2)))
    ]
    hidden = model.embed(features, proprio, ids)
    hidden = torch.cat([hidden[:, :1], *pooled, hidden[:, 19:]], dim=1)
    alive = [0, *(1 + token for token in kept[0].tolist()), *range(19, mask.shape[1])]
    mask, positions = mask[:, alive], positions[:, alive]
    for layer in model.decoder.layers:
        hidden = layer(hidden, model.decoder.rotary(positions), model.decoder.attention_bias(mask)).hidden
    states = model.layout.with_visual(8).answer_states(model.decoder.norm(hidden), mask)
    torch.testing.assert_close(actions, model.read_actions(states), atol=1e-5, rtol=1e-5)
    assert kept.tolist() == [[1, 7, 9, 11, 12, 14, 15, 17]]
    assert set(fate[0].tolist()) <= set(kept[0].tolist())  # every token went into some mean


@pytest.mark.parametrize("form", ["levels", "flat"])
def test_in_a_model_attention_is_the_instructions(form: str) -> None:
    model = small_model()
    policy = Watching(QuotaConfig(form=form, scores="attention", rank_by="text"), model_shape(model))
    step = SinglePassStep(model, policy, 9)
    inputs = observation(model, batch=2)
    assert step.task_inputs == ()
    _, kept, *_ = step(*inputs)
    images, proprio, ids, mask, positions = inputs
    decoder, layout = model.decoder, model.layout
    hidden = model.embed(model.embed_visual(model.visual_tokens(images)), proprio, ids)
    layer, rotary = decoder.layers[0], decoder.rotary(positions)
    output = layer(hidden, rotary, decoder.attention_bias(mask)).attention
    text = layout.take(mask, "text").float()
    rows = output.query[:, :, layout.span("text")]
    bias = decoder.attention_bias(mask)
    weights = text / text.sum(dim=1, keepdim=True)
    expected = layout.take(attention_received(rows, output.key, bias, weights), "visual")
    torch.testing.assert_close(policy.seen.signals[0], expected)
    grid = model.config.grid
    for robot in range(2):
        attention = expected[robot].numpy()
        ranked = mean_by_view(attention, grid)
        if form == "flat":
            assert kept[robot].tolist() == oracles.flat(ranked, attention, grid, 2.0, 9)
        else:
            sizes = oracles.table_of(ranked, 2.0, tables_of(policy, 9, grid), 0)
            assert kept[robot].tolist() == oracles.levels(ranked, grid, sizes, "bilinear")[0]
