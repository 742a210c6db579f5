"""random_keep is seeded, walks its table, and favours no token."""

from __future__ import annotations

import torch
from torch import Tensor

from saccade.policies.base import UpdateInputs
from saccade.policies.conformance import TokenPolicyConformance
from saccade.policies.methods.random_keep import TABLE_STEPS
from saccade.policies.registry import build_policy
from saccade.policies.testing.dry_run import GRID, SHAPE, draw_scene, initial_carry, play


class TestRandomKeep(TokenPolicyConformance):
    policy_name = "random_keep"
    policy_options = {"seed": 3, "warmup_steps": 3, "insertion_layer": 2}


def run(seed: int, steps: int, keep: int = 10) -> list[Tensor]:
    policy = build_policy("random_keep", {"seed": seed}, SHAPE)
    carry, kept = initial_carry(policy), []
    for step in range(steps):
        scene = draw_scene(policy, step)
        kept.append(play(policy, scene, carry, keep).kept)
        carry = policy.update(UpdateInputs((), scene.present), carry)
    return kept


def test_one_seed_gives_one_sequence() -> None:
    assert all(torch.equal(a, b) for a, b in zip(run(seed=5, steps=6), run(seed=5, steps=6), strict=True))


def test_seeds_and_steps_differ() -> None:
    first, other = run(seed=5, steps=2), run(seed=6, steps=1)
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], other[0])


def test_the_sequence_repeats_after_the_table_ends() -> None:
    kept = run(seed=0, steps=TABLE_STEPS + 1)
    assert torch.equal(kept[0], kept[TABLE_STEPS])


def test_every_token_gets_its_turn() -> None:
    counts = torch.bincount(torch.cat(run(seed=1, steps=TABLE_STEPS), dim=1).flatten(), minlength=GRID.tokens)
    expected = TABLE_STEPS * 10 / GRID.tokens
    assert (counts > expected / 3).all() and (counts < expected * 3).all()


def test_acts_where_vla_pruner_acts() -> None:
    for layers in (4, 8, 18, 32):
        shape = type(SHAPE)(layers=layers, grid=GRID)
        random, pruner = (build_policy(name, {}, shape) for name in ("random_keep", "vla_pruner"))
        assert random.cuts[0].index == pruner.cuts[0].index
