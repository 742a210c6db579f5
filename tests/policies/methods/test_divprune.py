"""divprune keeps tokens that are far from each other, jointly or view by view."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saccade.export.steps.policy_checks import model_shape
from saccade.policies.base import Grid, Place
from saccade.policies.conformance import TokenPolicyConformance
from saccade.policies.registry import build_policy
from saccade.policies.testing.dry_run import GRID, SHAPE, draw_scene, play
from tests.export.samples import observation
from tests.policies import oracles
from tests.policies.deep_model import Recorded, deep_model


class TestDivPrune(TokenPolicyConformance):
    policy_name = "divprune"


class TestDivPrunePerView(TokenPolicyConformance):
    policy_name = "divprune"
    policy_options = {"budget": "per_view"}


@given(seed=st.integers(0, 10_000), keep=st.integers(1, GRID.tokens - 1))
def test_selection_equals_the_oracle(seed: int, keep: int) -> None:
    policy = build_policy("divprune", {}, SHAPE)
    scene = draw_scene(policy, seed, batch=2)
    kept = play(policy, scene, {}, keep).kept
    for robot in range(2):
        everyone = list(range(GRID.tokens))
        expected = oracles.max_min_diversity(scene.embeddings[robot].numpy(), everyone, keep)
        assert kept[robot].tolist() == sorted(expected)


@given(seed=st.integers(0, 10_000), keep=st.integers(1, 11), views=st.sampled_from([1, 2, 3]))
def test_each_view_gets_its_share_also_among_duplicates(seed: int, keep: int, views: int) -> None:
    grid, size = Grid(views, 1, 12 // views), 12 // views
    policy = build_policy("divprune", {"budget": "per_view"}, SHAPE)
    scene, random = draw_scene(policy, seed, grid=grid), torch.Generator().manual_seed(seed)
    scene.embeddings.copy_(torch.randint(-1, 2, scene.embeddings.shape, generator=random).float())
    scene.embeddings[..., 3:] = 0.0
    expected: list[int] = []
    for view in range(views):
        share = keep // views + (view < keep % views)
        if share:
            part = scene.embeddings[0, view * size : (view + 1) * size].numpy()
            local = oracles.max_min_diversity(part, list(range(size)), share)
            expected += [view * size + token for token in sorted(local)]
    assert play(policy, scene, {}, keep, grid).kept[0].tolist() == expected


def test_duplicates_go_first() -> None:
    policy = build_policy("divprune", {}, SHAPE)
    scene = draw_scene(policy, 7)
    scene.embeddings[0, 20:] = scene.embeddings[0, 3] * torch.rand(20, 1).add(0.5)  # same directions
    kept = play(policy, scene, {}, 20).kept[0].tolist()
    assert sum(token == 3 or token >= 20 for token in kept) == 1
    assert {token for token in range(20) if token != 3} <= set(kept)


def test_placed_in_a_model_it_sees_input_embeddings_at_the_entry() -> None:
    model = deep_model()
    inputs = observation(model, batch=2)
    policy = build_policy("divprune", {}, model_shape(model))
    assert [(cut.place, cut.index, cut.signals) for cut in policy.cuts] == [(Place.DECODER, 0, ())]
    recorded = Recorded(model, policy, 7)
    out = recorded.run(inputs)
    embeddings = model.embed_visual(model.visual_tokens(inputs[0]))
    torch.testing.assert_close(recorded.seen[0][0].embeddings, embeddings, atol=1e-5, rtol=1e-4)
    for robot in range(2):
        expected = oracles.max_min_diversity(embeddings[robot].numpy(), list(range(32)), 7)
        assert out.kept[robot].tolist() == sorted(expected)
    assert out.actions.shape == (2, 2, 3)


@pytest.mark.parametrize("budget", ["joint", "per_view"])
def test_the_choice_depends_on_directions_alone(budget: str) -> None:
    policy = build_policy("divprune", {"budget": budget}, SHAPE)
    scene = draw_scene(policy, 8)
    kept = play(policy, scene, {}, 13).kept
    scene.embeddings.mul_(torch.rand(1, GRID.tokens, 1) + 0.5)
    assert torch.equal(play(policy, scene, {}, 13).kept, kept)
