"""Sinks do not rank; where none is excluded, nothing changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saccade.policies.blocks.sinks import sink_threshold, without_sinks
from saccade.policies.measurements import Measurements, Table
from saccade.policies.registry import build_policy
from saccade.policies.testing.dry_run import GRID, SHAPE, Scene, draw_scene, lived_in_carry, play
from saccade.proto.errors import PolicyError
from tests.policies import oracles

FORMS = [("fastv", False), ("vtc_cls", False), ("vla_pruner", False), ("vla_pruner", True)]


def _table(columns: np.ndarray) -> Table:
    return tuple(map(tuple, columns.tolist()))


def test_the_threshold_is_tukeys_far_fence_of_the_logarithm() -> None:
    random = np.random.default_rng(0)
    usual = np.exp(random.normal(-5.0, 0.4, (6, 50)))
    lower, upper = np.quantile(np.log(usual), (0.25, 0.75))
    found = sink_threshold(_table(usual))
    assert found == pytest.approx(np.exp(upper + 3.0 * (upper - lower)))
    # However long the sequence: only ratios count.
    assert sink_threshold(_table(usual / 9.0)) == pytest.approx(found / 9.0)
    usual[:, 7] = 0.4
    assert usual[:, :7].max() < sink_threshold(_table(usual)) < 0.4


def test_columns_that_are_all_alike_are_no_sinks() -> None:
    assert sink_threshold(((0.02, 0.02, 0.02 + 1e-9, float("nan"), 0.0),)) == pytest.approx(0.04)
    with pytest.raises(
        PolicyError, match="'exclude_sinks' must be a number where no column received attention"
    ):
        sink_threshold(((0.0, float("nan")),))


def test_a_sink_comes_last_and_a_lost_column_keeps_its_score() -> None:
    scores = torch.tensor([[0.5, 0.2, 0.3, 0.1]])
    columns = torch.tensor([[0.9, 0.1, float("nan"), 0.2]])
    assert without_sinks(scores, [columns], 0.2).tolist() == [[-torch.inf, *scores[0, 1:].tolist()]]
    assert without_sinks(scores, [], "off") is scores


@pytest.mark.parametrize(("name", "in_one_pass"), FORMS)
@given(seed=st.integers(0, 10_000), keep=st.integers(1, GRID.tokens - 1))
def test_where_none_is_excluded_every_kept_set_is_as_it_was(
    name: str, in_one_pass: bool, seed: int, keep: int
) -> None:
    shape = replace(SHAPE, acts_in_one_pass=in_one_pass)
    plain = build_policy(name, {}, shape)
    none_above = build_policy(name, {"exclude_sinks": 1.0}, shape)  # no mean of shares exceeds 1
    scene, carry = draw_scene(none_above, seed), lived_in_carry(plain)
    without = replace(scene, signals=scene.signals[: len(plain.cuts[0].signals)])
    assert torch.equal(play(none_above, scene, carry, keep).kept, play(plain, without, carry, keep).kept)


@given(seed=st.integers(0, 10_000), keep=st.integers(1, GRID.tokens - 1))
def test_fastv_ranks_the_others_only(seed: int, keep: int) -> None:
    policy = build_policy("fastv", {"exclude_sinks": 0.05}, SHAPE)
    scene: Scene = draw_scene(policy, seed)
    received, columns = (signal[0].numpy() for signal in scene.signals)
    expected = oracles.top_k(np.where(columns > np.float32(0.05), -np.inf, received), keep)
    assert play(policy, scene, {}, keep).kept[0].tolist() == expected


@pytest.mark.parametrize(("name", "in_one_pass"), FORMS)
def test_calibration_finds_the_threshold_and_the_graph_asks_for_the_columns(
    name: str, in_one_pass: bool
) -> None:
    shape = replace(SHAPE, acts_in_one_pass=in_one_pass)
    policy = build_policy(name, {"exclude_sinks": "auto"}, shape)
    assert policy.needs_calibration and len(policy.calibration_signals) == 1
    columns = np.exp(np.random.default_rng(1).normal(size=(3, GRID.tokens)))
    table = _table(columns)
    decided = policy.calibrate(Measurements(signals={str(policy.calibration_signals[0]): table}))
    assert decided == {"exclude_sinks": sink_threshold(table)}
    final = build_policy(name, {**policy.config.as_dict(), **decided}, shape)
    assert final.cuts[0].signals == (*policy.cuts[0].signals, *policy.calibration_signals)
    assert not final.needs_calibration
