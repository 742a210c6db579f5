"""adp shares the budget by view, ranks by the raw logits of the instruction, and declares its motion gate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saccade.export.steps.policy_checks import model_shape
from saccade.export.steps.single_pass_step import SinglePassStep
from saccade.policies.base import Grid, ModelShape, MotionGate, Selection, SelectionInputs
from saccade.policies.blocks.budgets import split_by_weight
from saccade.policies.conformance import TokenPolicyConformance
from saccade.policies.methods.adp import Adp
from saccade.policies.registry import build_policy
from saccade.policies.testing.dry_run import GRID, SHAPE, draw_scene, play
from saccade.proto.errors import PolicyError
from tests.export.samples import CONFIG, observation, tiny_model
from tests.policies import oracles_adp


class TestAdp(TokenPolicyConformance):
    policy_name = "adp"


class TestAdpAlmostOneView(TokenPolicyConformance):
    policy_name = "adp"
    policy_options = {"view_weights": (1, 0), "gated": False}


def adp(shape: ModelShape = SHAPE, **options: object) -> Adp:
    policy = build_policy("adp", options, shape)
    assert isinstance(policy, Adp)
    return policy


@given(
    seed=st.integers(0, 10_000),
    keep=st.integers(1, GRID.tokens - 1),
    weights=st.sampled_from([(0.4, 0.6), (1.0, 1.0), (0.9, 0.1), (1.0, 7.0)]),
)
def test_selection_equals_the_oracle(seed: int, keep: int, weights: tuple[float, ...]) -> None:
    policy = adp(view_weights=weights)
    scene = draw_scene(policy, seed, batch=2)
    scene.signals[0][:, 3] = scene.signals[0][:, 7]  # a tie
    scene.signals[0][1, 12] = torch.nan
    shares = oracles_adp.shares_by_weight(keep, weights, GRID.per_view)
    kept = play(policy, scene, {}, keep).kept
    for robot in range(2):
        assert kept[robot].tolist() == oracles_adp.adp(scene.signals[0][robot].numpy(), shares)


@given(
    keep=st.integers(0, 60),
    weights=st.lists(st.sampled_from([0.1, 0.25, 0.4, 0.6, 1.0, 3.0]), min_size=3, max_size=5),
)
def test_a_budget_is_split_like_the_oracle_splits_it(keep: int, weights: list[float]) -> None:
    shares = split_by_weight(keep, weights, 20)
    assert list(shares) == oracles_adp.shares_by_weight(keep, weights, 20)
    assert sum(shares) == keep and max(shares) <= 20


def test_the_published_split_of_512_tokens() -> None:
    assert split_by_weight(154, (0.4, 0.6), 256) == (62, 92)
    assert split_by_weight(2, (0.4, 0.6), 256) == (1, 1)
    assert split_by_weight(500, (0.4, 0.6), 256) == (244, 256)
    assert split_by_weight(5, (0.0, 0.0), 256) == (3, 2)
    with pytest.raises(PolicyError, match="at most 4 tokens for each of 2 views, found 9"):
        split_by_weight(9, (0.4, 0.6), 4)


def test_weights_follow_the_number_of_views() -> None:
    assert adp().config.view_weights == (0.4, 0.6)
    assert adp(ModelShape(8, Grid(1, 4, 5))).config.view_weights == (1.0,)
    for views in (3, 4):  # the code: [main_w] + [wrist_w / rest] * rest
        weights = adp(ModelShape(8, Grid(views, 4, 5))).config.view_weights
        assert weights == pytest.approx((0.4, *(0.6 / (views - 1),) * (views - 1)))
    three, grid = adp(ModelShape(8, Grid(3, 4, 5))), Grid(3, 4, 5)
    kept = play(three, draw_scene(three, 0, grid=grid), {}, 20, grid).kept[0]
    assert (kept // 20).bincount().tolist() == [8, 6, 6]


def test_one_view_is_plain_top_k() -> None:
    grid = Grid(1, 4, 5)
    policy = adp(ModelShape(8, grid))
    scene = draw_scene(policy, 3, grid=grid)
    expected = oracles_adp.adp(scene.signals[0][0].numpy(), [7])
    assert play(policy, scene, {}, 7, grid).kept[0].tolist() == expected


def test_equal_scores_keep_the_first_tokens_of_each_view() -> None:
    policy = adp()
    scene = draw_scene(policy, 1)
    scene.signals[0].fill_(-2.5)
    assert play(policy, scene, {}, 5).kept.tolist() == [[0, 1, 20, 21, 22]]


class _Watching(Adp):
    seen: SelectionInputs

    def select(self, inputs: SelectionInputs, carry: dict[str, torch.Tensor], keep: int) -> Selection:
        self.seen = inputs
        return super().select(inputs, carry, keep)


@pytest.mark.parametrize("kv_heads", [1, 2])
def test_in_a_model_it_sees_the_first_layers_raw_logits(kv_heads: int) -> None:
    """Two robots with instructions of different lengths: padding must not count."""
    model = tiny_model() if kv_heads == 2 else _grouped()
    policy = _Watching(adp().config, model_shape(model))
    images, proprio, ids, _, _ = observation(model, batch=2)
    mask, positions = model.sequence_inputs(torch.tensor([2, 5]))
    actions, kept = SinglePassStep(model, policy, 5)(images, proprio, ids, mask, positions)
    assert actions.shape == (2, 2, 3) and kept.shape == (2, 5)
    layer, layout = model.decoder.layers[0], model.layout
    hidden = model.embed(model.embed_visual(model.visual_tokens(images)), proprio, ids)
    normed = layer.input_layernorm(hidden).double().numpy()
    query = normed @ layer.self_attn.q_proj.weight.double().numpy().T
    key = normed @ layer.self_attn.k_proj.weight.double().numpy().T
    for robot, length in enumerate((2, 5)):
        text = range(layout.span("text").start, layout.span("text").start + length)
        scores = np.zeros(8)
        for place, token in enumerate(range(layout.span("visual").start, layout.span("visual").stop)):
            for row in text:
                for head in range(2):
                    group = head * kv_heads // 2
                    q = query[robot, row, head * 8 : head * 8 + 8]
                    scores[place] += q @ key[robot, token, group * 8 : group * 8 + 8] / np.sqrt(8)
        scores /= 2 * length
        np.testing.assert_allclose(policy.seen.signals[0][robot].numpy(), scores, rtol=1e-4, atol=1e-6)
        assert kept[robot].tolist() == oracles_adp.adp(scores, [2, 3])


def _grouped() -> torch.nn.Module:
    from saccade.export.families.openvla_oft.model import OpenVlaOft, initialise

    config = replace(CONFIG, decoder=replace(CONFIG.decoder, kv_heads=1))
    return initialise(OpenVlaOft(config), 3).eval().requires_grad_(False)


def test_the_gate_is_declared() -> None:
    assert adp().gate == MotionGate(window=3, look_back=2)
    assert adp(window=4, look_back=1).gate == MotionGate(4, 1)
    assert adp(gated=False).gate is None


def test_the_gate_rule_step_by_step() -> None:
    """Windows of three, compared with the two before: five displacements until anything is decided."""
    speeds = [0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 3.0, 3.0, 3.0, 3.0, 2.0, 3.0, 0.0, 0.0]
    phases = [oracles_adp.is_fast(speeds[: end + 1], 3, 2) for end in range(len(speeds))]
    #  m:     -      -      0      1     3     6     8     9     9     9     8     8      5      3
    expected = [False] * 4 + [True] * 6 + [False] * 4
    assert phases == expected


def test_a_constant_speed_changes_nothing() -> None:
    assert not oracles_adp.is_fast([0.3] * 30, 3, 2)
    assert oracles_adp.is_fast([0.0] * 5 + [0.3] * 30, 3, 2)


def test_a_lost_displacement_is_slow() -> None:
    fast = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    assert oracles_adp.is_fast(fast, 3, 2)
    assert not oracles_adp.is_fast([*fast, float("nan")], 3, 2)
    assert not oracles_adp.is_fast([*fast, float("inf"), 1.0], 3, 2)


@given(values=st.lists(st.integers(0, 8), max_size=40), window=st.integers(1, 5), look_back=st.integers(1, 4))
def test_a_unit_of_length_changes_no_phase(values: list[int], window: int, look_back: int) -> None:
    metres = oracles_adp.is_fast([float(value) for value in values], window, look_back)
    assert oracles_adp.is_fast([value * 1024.0 for value in values], window, look_back) == metres
    if len(values) < window + look_back:
        assert not metres


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"view_weights": (1.0,)}, "'view_weights' must be one number for each of 2 views"),
        ({"view_weights": (0.0, 0.0)}, "'view_weights' must be numbers of 0 or more, one of them above 0"),
        ({"view_weights": (-0.1, 1.0)}, "'view_weights' must be numbers of 0 or more"),
        ({"view_weights": (float("nan"), 1.0)}, "'view_weights' must be numbers of 0 or more"),
        ({"window": 0}, r"'window' must be in 1\.\.64, found 0"),
        ({"look_back": 0}, r"'look_back' must be in 1\.\.64, found 0"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        build_policy("adp", options, SHAPE)
