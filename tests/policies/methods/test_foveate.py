"""foveate encodes what its rule says, leaves no patch out for too long, and keeps what VLA-Pruner would."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saccade.policies.base import SelectionInputs, UpdateInputs
from saccade.policies.conformance import TokenPolicyConformance
from saccade.policies.methods.foveate import ATTENTION, PATCHES, STEP, Foveate
from saccade.policies.registry import build_policy
from saccade.policies.signals import EncodedAge, Pixels
from saccade.policies.testing.dry_run import (
    GRID,
    SHAPE,
    Scene,
    draw_scene,
    initial_carry,
    lived_in_carry,
    play,
    requests,
)
from saccade.proto.errors import PolicyError
from tests.policies import oracles, oracles_foveate

IN_ONE_PASS = replace(SHAPE, acts_in_one_pass=True)


class TestFoveateInOnePass(TokenPolicyConformance):
    policy_name = "foveate"
    shape = IN_ONE_PASS


class TestFoveateAcrossSteps(TokenPolicyConformance):
    policy_name = "foveate"
    policy_options = {"encode": 0.25, "choose": "change", "camera_cut": 0.0, "refresh_every": 9}


class TestFoveateAtTheEntry(TokenPolicyConformance):
    policy_name = "foveate"
    policy_options = {"insertion_layer": 0, "encode": 1.0}
    shape = IN_ONE_PASS


class TestFoveateAtRandom(TokenPolicyConformance):
    policy_name = "foveate"
    policy_options = {"choose": "random", "attention_layers": "latter_half"}
    shape = IN_ONE_PASS


def foveate(**options: object) -> Foveate:
    policy = build_policy("foveate", options, IN_ONE_PASS)
    assert isinstance(policy, Foveate)
    return policy


def signal(policy: Foveate, scene: Scene, kind: type) -> torch.Tensor:
    found = [
        x for request, x in zip(requests(policy), scene.signals, strict=True) if isinstance(request, kind)
    ]
    return found[0]


def encoded_of(policy: Foveate, scene: Scene, carry: dict[str, torch.Tensor]) -> list[list[int]]:
    """Tokens of the whole observation whose patches are encoded, robot by robot."""
    kept = play(policy, scene, carry, 7).selections[0].kept
    start = torch.arange(GRID.views).repeat(kept.shape[0] // GRID.views).unsqueeze(1) * GRID.per_view
    found: list[list[int]] = (kept + start).reshape(-1, GRID.views * kept.shape[1]).tolist()
    return found


@given(seed=st.integers(0, 10_000), share=st.sampled_from([0.25, 0.5, 0.8]), still=st.booleans())
@settings(max_examples=60)
def test_what_is_encoded_equals_the_oracle(seed: int, share: float, *, still: bool) -> None:
    policy = foveate(encode=share, noise=3.0, attention_weight=0.4, age_weight=0.05, max_age=7)
    scene, carry = draw_scene(policy, seed, batch=2), lived_in_carry(policy, 2)
    patches, ages = signal(policy, scene, Pixels), signal(policy, scene, EncodedAge)
    ages.clamp_(max=4.0)  # many are equally old
    if still:
        patches[:, ::2] = carry[PATCHES][:, ::2]
    found = encoded_of(policy, scene, carry)
    for robot in range(2):
        scores = oracles_foveate.score(
            patches[robot].numpy().astype(np.float64),
            carry[PATCHES][robot].numpy(),
            ages[robot].numpy(),
            carry[ATTENTION][robot].numpy(),
            GRID.views,
            (0.4, 0.05, 3.0),
        )
        keep = round(share * GRID.per_view)
        assert found[robot] == oracles_foveate.encoded(scores, ages[robot].numpy(), GRID.views, keep, 7)


@given(seed=st.integers(0, 10_000), max_age=st.integers(2, 12), choose=st.sampled_from(["both", "random"]))
@settings(max_examples=25)
def test_no_patch_is_left_out_for_longer_than_it_may(seed: int, max_age: int, choose: str) -> None:
    """Nor where the same few patches move all the time, and the rest never does."""
    policy = foveate(max_age=max_age, choose=choose)
    loud = torch.rand(GRID.tokens, generator=torch.Generator().manual_seed(seed)) < 0.5
    carry, ages = lived_in_carry(policy), torch.zeros(1, GRID.tokens)
    for step in range(3 * max_age):
        scene = draw_scene(policy, seed + step)
        patches, age = signal(policy, scene, Pixels), signal(policy, scene, EncodedAge)
        patches[0, ~loud] = carry[PATCHES][0, ~loud]
        ages += 1
        age.copy_(ages)
        encoded = torch.tensor(encoded_of(policy, scene, carry))
        ages.scatter_(1, encoded, 0.0)
        assert ages.max() < max_age
        updates = (*scene.updates[:2], patches)
        carry = policy.update(UpdateInputs(updates, torch.ones_like(ages), None, encoded), carry)


def test_a_share_that_cannot_keep_the_promise_is_refused() -> None:
    with pytest.raises(PolicyError, match=r"'max_age' must be 4 or more where 5 of 20 patches .*, found 3"):
        foveate(encode=0.25, max_age=3)
    assert foveate(encode=0.25, max_age=4).schedule(9) == (10, 9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encode": 0.0}, r"'encode' must be above 0 and at most 1, found 0\.0"),
        ({"encode": 1.5}, "'encode' must be above 0"),
        ({"max_age": 0}, "'max_age' must be 1 or more"),
        ({"smoothing": 1.0}, "'smoothing' must be in 0..1, below 1"),
        ({"text": -0.1}, "'text' must be in 0..1"),
        ({"noise": -1.0}, "'noise' must be 0 or more"),
        ({"attention_weight": float("inf")}, "'attention_weight' must be 0 or more, and finite"),
        ({"camera_cut": 1.1}, "'camera_cut' must be in 0..1"),
        ({"refresh_every": -1}, "'refresh_every' must be 0"),
        ({"insertion_layer": 8}, r"'insertion_layer' must be in 1\.\.7"),
        ({"insertion_layer": 0, "attention_layers": "last_full"}, "'latter_half', or null"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        foveate(**options)


@given(seed=st.integers(0, 10_000), keep=st.integers(2, GRID.tokens - 1))
@settings(max_examples=40)
def test_the_decoder_keeps_what_vla_pruner_would(seed: int, keep: int) -> None:
    policy = foveate()
    scene, carry = draw_scene(policy, seed), lived_in_carry(policy)
    semantic, action = (x[0].numpy() for x in scene.signals[2:])
    kept, expected = play(policy, scene, carry, keep).kept[0].tolist(), []
    for view, budget in enumerate(((keep + 1) // 2, keep // 2)):
        own = slice(view * GRID.per_view, (view + 1) * GRID.per_view)
        chosen = oracles.vla_pruner(semantic[own], action[own], scene.embeddings[0, own].numpy(), budget)
        expected += [own.start + token for token in chosen]
    assert kept == expected


def test_at_the_entry_tokens_rank_by_attention_and_change() -> None:
    policy = foveate(insertion_layer=0)
    scene, carry = draw_scene(policy, 3), lived_in_carry(policy)
    patches = signal(policy, scene, Pixels)[0].numpy().astype(np.float64)
    change = np.abs(patches - carry[PATCHES][0].numpy()).mean(axis=1)
    attention = carry[ATTENTION][0].numpy().astype(np.float64)
    value = attention / attention.sum() + 0.5 * change / change.sum()
    expected = sorted(sorted(range(GRID.tokens), key=lambda token: (-value[token], token))[:9])
    assert play(policy, scene, carry, 9).kept[0].tolist() == expected


def test_attention_is_smoothed_and_patches_are_those_that_were_encoded() -> None:
    policy = foveate(text=0.25, smoothing=0.6)
    carry, expected = initial_carry(policy), np.zeros(GRID.tokens)
    shown = carry[PATCHES].clone()
    encoded = torch.tensor([[0, 3, 21]])
    for step in range(4):
        scene = draw_scene(policy, step)
        (action, text, patches), everyone = scene.updates, torch.ones(1, GRID.tokens)
        seen = (action / scene.present.clamp(min=1.0) + 0.01, text + 0.02, patches)
        carry = policy.update(UpdateInputs(seen, everyone, None, None if step == 0 else encoded), carry)
        expected = oracles_foveate.smoothed(expected, seen[0][0].numpy(), seen[1][0].numpy(), 0.25, 0.6)
        shown = patches.clone() if step == 0 else shown
        shown[0, encoded[0]] = patches[0, encoded[0]]
        np.testing.assert_allclose(carry[ATTENTION][0].numpy(), expected, rtol=1e-5)
        assert torch.equal(carry[PATCHES], shown)


@pytest.mark.parametrize("choose", ["change", "attention", "oldest", "random"])
def test_an_ablation_looks_at_nothing_else(choose: str) -> None:
    policy = foveate(choose=choose, age_weight=0.0)
    scene, carry = draw_scene(policy, 5), lived_in_carry(policy)
    signal(policy, scene, EncodedAge).fill_(1.0)
    before = encoded_of(policy, scene, carry)
    others = {
        "change": {ATTENTION: carry[ATTENTION].flip(1)},
        "attention": {PATCHES: carry[PATCHES].flip(1)},
    }.get(choose, {ATTENTION: carry[ATTENTION].flip(1), PATCHES: carry[PATCHES].flip(1)})
    assert encoded_of(policy, scene, {**carry, **others}) == before
    if choose == "random":
        assert encoded_of(policy, scene, {**carry, STEP: carry[STEP] + 1}) != before
    if choose == "oldest":
        assert before == [[*range(10), *range(20, 30)]]


def test_what_matters_comes_before_what_stands_still() -> None:
    """One patch moved, another is attended to, the rest does nothing; all are equally old."""
    policy = foveate(encode=0.1, max_age=10)
    scene = draw_scene(policy, 0)
    carry = initial_carry(policy)
    carry[ATTENTION][0, 13] = 0.5
    patches, age = signal(policy, scene, Pixels), signal(policy, scene, EncodedAge)
    patches.zero_()
    patches[0, 4] = 90.0
    age.fill_(1.0)
    first: SelectionInputs = play(policy, scene, carry, 7).inputs[0]
    assert first.grid.tokens == GRID.per_view
    assert encoded_of(policy, scene, carry) == [[4, 13, 20, 21]]
