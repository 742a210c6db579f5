"""vla_pruner follows the paper's formulas, without the bugs of its public code."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saccade.policies.base import Grid, ModelShape, UpdateInputs
from saccade.policies.conformance import TokenPolicyConformance
from saccade.policies.methods.vla_pruner import AGE, HISTORY, VlaPruner, VlaPrunerConfig
from saccade.policies.registry import build_policy
from saccade.policies.signals import AttentionReceived, QueryRows
from saccade.policies.testing.dry_run import (
    GRID,
    SHAPE,
    Scene,
    draw_scene,
    initial_carry,
    lived_in_carry,
    play,
)
from saccade.proto.errors import PolicyError
from tests.policies import oracles

IN_ONE_PASS = replace(SHAPE, acts_in_one_pass=True)


class TestVlaPruner(TokenPolicyConformance):
    policy_name = "vla_pruner"


class TestVlaPrunerPerView(TokenPolicyConformance):
    policy_name = "vla_pruner"
    policy_options = {
        "budget": "per_view",
        "absent": "zero",
        "rows": "last",
        "window": 2,
        "insertion_layer": 2,
    }
    keeps = (1, 2, 7, 21)


class TestVlaPrunerFullLayers(TokenPolicyConformance):
    policy_name = "vla_pruner"
    policy_options = {"action_layers": "full", "rows": "all", "insertion_layer": 4, "refresh_every": 9}


class TestVlaPrunerInOnePass(TokenPolicyConformance):
    policy_name = "vla_pruner"
    policy_options = {"form": "single_pass", "exclude_sinks": 0.02}
    shape = IN_ONE_PASS


def update(policy: VlaPruner, seed: int) -> UpdateInputs:
    scene = draw_scene(policy, seed)
    return UpdateInputs(scene.updates, scene.present)


def pruner(shape: ModelShape = SHAPE, **options: object) -> VlaPruner:
    policy = build_policy("vla_pruner", options, shape)
    assert isinstance(policy, VlaPruner)
    return policy


@given(seed=st.integers(0, 10_000), keep=st.integers(1, GRID.tokens - 1))
def test_selection_equals_the_oracle(seed: int, keep: int) -> None:
    policy = pruner()
    scene, carry = draw_scene(policy, seed, batch=2), lived_in_carry(policy, 2)
    kept = play(policy, scene, carry, keep).kept
    for robot in range(2):
        newest_first = list(carry[HISTORY][robot].numpy()[::-1])
        action = oracles.smoothed_action_score(newest_first, decay=0.8).astype(np.float32)
        semantic, embeddings = scene.signals[0][robot].numpy(), scene.embeddings[robot].numpy()
        assert kept[robot].tolist() == oracles.vla_pruner(semantic, action, embeddings, keep)


@given(seed=st.integers(0, 10_000), keep=st.integers(1, GRID.tokens - 1))
def test_per_view_selection_equals_the_oracle_on_each_view(seed: int, keep: int) -> None:
    policy = pruner(budget="per_view")
    scene, carry = draw_scene(policy, seed), lived_in_carry(policy)
    kept = play(policy, scene, carry, keep).kept[0].tolist()
    action = oracles.smoothed_action_score(list(carry[HISTORY][0].numpy()[::-1]), 0.8).astype(np.float32)
    expected: list[int] = []
    per_view = GRID.tokens // GRID.views
    for view, share in enumerate(((keep + 1) // 2, keep // 2)):
        part = slice(view * per_view, (view + 1) * per_view)
        if share:
            semantic, embeddings = scene.signals[0][0, part].numpy(), scene.embeddings[0, part].numpy()
            local = oracles.vla_pruner(semantic, action[part], embeddings, share)
            expected += [view * per_view + token for token in local]
    assert kept == expected


@given(seed=st.integers(0, 10_000), absent=st.sampled_from(["presence", "zero"]))
def test_update_equals_the_oracle(seed: int, absent: str) -> None:
    policy = pruner(absent=absent)
    carry = lived_in_carry(policy)
    seen = update(policy, seed)
    estimate = oracles.smoothed_action_score(list(carry[HISTORY][0].numpy()[::-1]), 0.8)
    if absent == "zero":
        estimate = np.zeros(GRID.tokens)
    expected = oracles.pushed_row(seen.signals[0][0].numpy(), seen.present[0].numpy(), estimate)
    history = policy.update(seen, carry)[HISTORY][0]
    np.testing.assert_allclose(history[-1].numpy(), expected, rtol=1e-4, atol=1e-7)
    np.testing.assert_array_equal(history[:-1].numpy(), carry[HISTORY][0, 1:].numpy())


def test_the_newest_frame_weighs_most() -> None:
    """Three frames each look at another token; the decayed mean ranks the newest first (not so in the public code)."""
    policy = pruner()
    carry = initial_carry(policy)
    for token in (5, 6, 7):
        row = torch.zeros(1, GRID.tokens)
        row[0, token] = 0.4
        carry = policy.update(UpdateInputs((row,), torch.ones_like(row)), carry)
    scene: Scene = draw_scene(policy, 0)
    scene.signals[0].fill_(0.0)
    scene.signals[0][0, 7] = 1.0  # the semantic top-1 is the newest too: the union is a single token
    assert play(policy, scene, carry, keep=1).kept.tolist() == [[7]]


def test_a_dropped_token_keeps_its_estimate_and_can_return() -> None:
    """The feedback loop of the published method: absent once, absent until semantics bring it back."""
    full, pruned = torch.ones(1, GRID.tokens), torch.ones(1, GRID.tokens)
    pruned[0, 3] = 0.0
    row = torch.full((1, GRID.tokens), 0.01)
    row[0, 3] = 0.5
    scores = {}
    for absent in ("presence", "zero"):
        policy = pruner(absent=absent)
        carry = initial_carry(policy)
        for present in (full, full, full, pruned, pruned, pruned):
            carry = policy.update(UpdateInputs((row * present,), present), carry)
        scores[absent] = carry[HISTORY][0, -1]
    assert scores["zero"][3] == 0.0
    assert scores["presence"][3] == pytest.approx(0.5 / (0.5 + 0.01 * (GRID.tokens - 1)), rel=1e-4)


def test_pruned_and_full_frames_weigh_the_same() -> None:
    for absent in ("presence", "zero"):
        policy = pruner(absent=absent)
        carry = initial_carry(policy)
        ones = torch.ones(1, GRID.tokens)
        for step in range(3):
            full = update(policy, step)
            carry = policy.update(UpdateInputs((full.signals[0] + 1e-3,), ones), carry)
        for step in range(5):
            carry = policy.update(update(policy, 50 + step), carry)
            assert carry[HISTORY].sum(dim=-1).numpy() == pytest.approx(1.0, abs=1e-5)


def test_a_broken_frame_leaves_the_estimate_alone() -> None:
    policy = pruner()
    carry = lived_in_carry(policy)
    carry = {HISTORY: carry[HISTORY] / carry[HISTORY].sum(dim=-1, keepdim=True)}
    lost = torch.full((1, GRID.tokens), float("nan"))
    history = policy.update(UpdateInputs((lost,), torch.ones_like(lost)), carry)[HISTORY]
    expected = oracles.smoothed_action_score(list(carry[HISTORY][0].numpy()[::-1]), 0.8)
    np.testing.assert_allclose(history[0, -1].numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("layers", "insertion", "first_action"), [(2, 1, 1), (3, 1, 1), (8, 1, 4), (18, 2, 9), (32, 3, 16)]
)
def test_acts_at_the_papers_depth(layers: int, insertion: int, first_action: int) -> None:
    policy = pruner(ModelShape(layers, GRID))
    assert policy.cuts[0].index == insertion
    assert policy.cuts[0].signals == (AttentionReceived(QueryRows.TEXT, (insertion - 1,)),)
    assert policy.update_signals == (AttentionReceived(QueryRows.ACTION, tuple(range(first_action, layers))),)


def test_action_rows_lie_on_one_side_of_the_cut() -> None:
    for option, layers in (("latter_half", (6, 7)), ("full", (3, 4, 5))):
        policy = pruner(insertion_layer=6, action_layers=option)
        assert policy.update_signals == (AttentionReceived(QueryRows.ACTION, layers),)


@given(seed=st.integers(0, 10_000), keep=st.integers(1, GRID.tokens - 1))
def test_in_one_pass_every_step_equals_the_oracle(seed: int, keep: int) -> None:
    """From the first step on, through the change from this step's rows to remembered ones."""
    policy = pruner(IN_ONE_PASS, window=2, decay=0.5)
    carry, rows, grid = initial_carry(policy), [], (GRID.views, GRID.per_view)
    for step in range(4):
        scene = draw_scene(policy, seed + step)
        semantic, now = (signal[0].numpy() for signal in scene.signals)
        kept = play(policy, scene, carry, keep).kept[0].tolist()
        embeddings = scene.embeddings[0].numpy()
        assert kept == oracles.single_pass(semantic, now, rows, embeddings, keep, grid, window=2, decay=0.5)
        carry = policy.update(UpdateInputs((scene.signals[1],), torch.ones_like(scene.present)), carry)
        rows.append(now / now.sum())


def test_in_one_pass_the_code_is_followed() -> None:
    """No full step, rows of the last full layer, K + 1 = 4 full layers of 32, a budget for each view."""
    policy = pruner(ModelShape(32, GRID, acts_in_one_pass=True))
    action = AttentionReceived(QueryRows.ACTION, (3,))
    assert policy.cuts[0].index == 4 and policy.warmup_steps == 0
    assert policy.cuts[0].signals == (AttentionReceived(QueryRows.BEFORE_ACTION, (3,)), action)
    assert policy.update_signals == (action,)
    assert policy.config.budget == "per_view" and policy.config.form == "single_pass"


def test_each_part_of_the_single_pass_can_be_taken_away() -> None:
    shape = ModelShape(32, GRID, acts_in_one_pass=True)
    behind = pruner(shape, form="single_pass", action_layers="latter_half", warmup_steps=3, absent="zero")
    assert behind.update_signals == (AttentionReceived(QueryRows.ACTION, tuple(range(16, 32))),)
    assert behind.cuts[0].signals[1] == AttentionReceived(QueryRows.ACTION, (3,)) and behind.warmup_steps == 3
    assert pruner(shape, rows="text").cuts[0].signals[0].rows is QueryRows.TEXT
    forgetful = pruner(shape, history="off")
    assert forgetful.update_signals == () and forgetful.carry_specs(GRID) == ()
    frozen = pruner(IN_ONE_PASS, history="frozen", window=1)
    carry = initial_carry(frozen)
    first, second = (frozen.update(update(frozen, step), carry) for step in range(2))
    again = frozen.update(update(frozen, 1), first)
    assert torch.equal(again[HISTORY], first[HISTORY]) and not torch.equal(second[HISTORY], first[HISTORY])


def test_an_old_manifest_builds_the_policy_that_it_was_written_for() -> None:
    """Options as bundles had them before there were forms."""
    old = {"insertion_layer": 2, "rows": "text", "action_layers": "latter_half", "budget": "joint"}
    policy = pruner(ModelShape(5, GRID, acts_in_one_pass=True), **old)
    assert policy.config.form == "across_steps" and policy.warmup_steps == 3
    assert [spec.name for spec in policy.carry_specs(GRID)] == [HISTORY]


def test_a_frozen_history_stops_after_the_window() -> None:
    policy = pruner(history="frozen", window=2)
    carry, rows = initial_carry(policy), []
    for step in range(4):
        carry = policy.update(update(policy, step), carry)
        rows.append(carry[HISTORY].clone())
    assert not torch.equal(rows[0], rows[1])
    assert torch.equal(rows[1], rows[3]) and carry[AGE].tolist() == [2]


def test_warms_up_for_one_window() -> None:
    assert pruner(window=5, refresh_every=20).warmup_steps == 5
    assert pruner(window=5, refresh_every=20).refresh_every == 20
    assert pruner(window=5).carry_specs(Grid(1, 3, 3))[0].shape == (1, 5, 9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, r"'window' must be in 1\.\.64, found 0"),
        ({"decay": 0.0}, "'decay' must be above 0 and at most 1, found 0.0"),
        ({"decay": 1.2}, "'decay' must be above 0 and at most 1, found 1.2"),
        ({"decay": float("nan")}, "'decay' must be above 0"),
        ({"refresh_every": -1}, "'refresh_every' must be 0"),
        (
            {"form": "single_pass"},
            "'form' must be 'across_steps', or null, where action rows follow the pass",
        ),
        ({"history": "off"}, "'history' must be 'live' or 'frozen' in form 'across_steps', found 'off'"),
        ({"warmup_steps": 0}, "'warmup_steps' must be 1 or more in form 'across_steps', found 0"),
        (
            {"exclude_sinks": 0.0},
            "'exclude_sinks' must be 'off', 'auto' or a mean attention above 0, found 0.0",
        ),
        ({"insertion_layer": 0}, r"'insertion_layer' must be in 1\.\.7 for a decoder of 8 layers, found 0"),
        ({"insertion_layer": 8}, r"'insertion_layer' must be in 1\.\.7"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        build_policy("vla_pruner", options, SHAPE)


def test_defaults_are_the_papers() -> None:
    config = VlaPrunerConfig()
    assert (config.window, config.decay) == (3, 0.8)
