"""vla_cache computes what changed, then what matters; everything else keeps its keys and values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saccade.export.steps.policy_checks import model_shape
from saccade.export.steps.selecting_module import initial_state
from saccade.export.steps.single_pass_step import SinglePassStep
from saccade.export.steps.visual_memory import KEYS, VALUES
from saccade.policies.conformance import TokenPolicyConformance
from saccade.policies.methods.vla_cache import PATCHES, RELEVANCE
from saccade.policies.registry import build_policy
from saccade.policies.testing.dry_run import GRID, SHAPE, draw_scene, lived_in_carry, play
from saccade.proto.errors import PolicyError
from tests.export.samples import CONFIG, observation, tiny_model


class TestVlaCache(TokenPolicyConformance):
    policy_name = "vla_cache"


class TestVlaCacheWithoutRelevance(TokenPolicyConformance):
    policy_name = "vla_cache"
    policy_options = {"similarity": 0.6, "relevant": 0.0, "refresh_every": 0}


def oracle(now: np.ndarray, before: np.ndarray, attention: np.ndarray, keep: int, relevant: int) -> list[int]:
    """Changed tokens first, most changed first; then task-relevant ones; then the least similar of the rest."""
    tokens = range(len(now))
    cosine = []
    for token in tokens:
        a, b = now[token].astype(np.float64), before[token].astype(np.float64)
        lengths = np.linalg.norm(a) * np.linalg.norm(b)
        cosine.append(round(float(a @ b / lengths), 6) if lengths > 0 else float(not a.any() and not b.any()))
    by_attention = sorted(tokens, key=lambda token: (-attention[token], token))
    by_change = sorted(tokens, key=lambda token: (cosine[token], token))
    chosen = [token for token in by_change if cosine[token] < 0.8]
    chosen += [token for token in by_attention[:relevant] if token not in chosen]
    chosen += [token for token in by_change if token not in chosen]
    return sorted(chosen[:keep])


@given(seed=st.integers(0, 10_000), keep=st.integers(1, GRID.tokens - 1))
def test_selection_equals_the_oracle(seed: int, keep: int) -> None:
    policy = build_policy("vla_cache", {"similarity": 0.8}, SHAPE)
    scene, carry = draw_scene(policy, seed), lived_in_carry(policy)
    random = np.random.default_rng(seed)
    same = torch.from_numpy(random.random(GRID.tokens) < 0.5)
    scene.signals[0][0, same] = carry[PATCHES][0, same]  # half of the patches stand still
    scene.signals[0][0, 0] = 0.0
    expected = oracle(
        scene.signals[0][0].numpy(),
        carry[PATCHES][0].numpy(),
        carry[RELEVANCE][0].numpy(),
        keep,
        round(0.47 * 40),
    )
    assert play(policy, scene, carry, keep).kept[0].tolist() == expected


def test_a_still_scene_gives_the_unpruned_actions() -> None:
    """What is remembered is then exactly what would have been computed."""
    model = tiny_model()
    policy = build_policy("vla_cache", {}, model_shape(model))
    full, part = SinglePassStep(model, policy, CONFIG.grid.tokens), SinglePassStep(model, policy, 2)
    inputs = observation(model, batch=2)
    start = [x.expand(2, *x.shape[1:]).clone() for x in initial_state(full)]
    whole, _, *carry = full(*inputs, *start)
    actions, kept, *following = part(*inputs, *carry)
    assert kept.shape == (2, 2)
    torch.testing.assert_close(actions, whole, atol=1e-5, rtol=1e-5)
    for before, after in zip(carry, following, strict=True):
        torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)


def test_only_computed_tokens_get_new_keys_and_values() -> None:
    model = tiny_model()
    policy = build_policy("vla_cache", {}, model_shape(model))
    full, part = SinglePassStep(model, policy, CONFIG.grid.tokens), SinglePassStep(model, policy, 3)
    names = [spec.name for spec in part.carry_specs]
    _, _, *carry = full(*observation(model, seed=0), *initial_state(full))
    actions, kept, *following = part(*observation(model, seed=1), *carry)
    unpruned = full(*observation(model, seed=1), *carry)[0]
    assert not torch.allclose(actions, unpruned, atol=1e-6)
    for name, before, after in zip(names, carry, following, strict=True):
        if name in (KEYS, VALUES):
            changed = (before != after).any(dim=-1).any(dim=2).any(dim=1)[0].nonzero().flatten()
            assert changed.tolist() == kept[0].tolist()


def test_what_changed_beyond_the_budget_counts_as_changed_until_it_is_computed() -> None:
    """Three of eight in a step: three steps of the new scene compute all of it."""
    model = tiny_model()
    policy = build_policy("vla_cache", {"relevant": 0.0}, model_shape(model))
    tokens = CONFIG.grid.tokens
    full, part = SinglePassStep(model, policy, tokens), SinglePassStep(model, policy, 3)
    before, now = observation(model, seed=0), observation(model, seed=1)
    _, _, *carry = full(*before, *initial_state(full))
    computed: list[int] = []
    for _ in range(-(-tokens // 3)):
        _, kept, *carry = part(*now, *carry)
        computed += kept[0].tolist()
    assert set(computed) == set(range(tokens))
    place = 2 + [spec.name for spec in full.carry_specs].index(PATCHES)
    assert torch.equal(carry[place - 2], full(*now, *carry)[place])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"similarity": 1.5}, r"'similarity' must be in 0\.\.1, found 1.5"),
        ({"relevant": -0.1}, r"'relevant' must be in 0\.\.1"),
        ({"layer": 8}, r"'layer' must be in 0\.\.7, found 8"),
        ({"refresh_every": -1}, "'refresh_every' must be 0"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        build_policy("vla_cache", options, SHAPE)
