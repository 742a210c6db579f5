"""spatten: what little attention reaches is gone for good, and so are heads that give little."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saccade.export.control.calibration import measure
from saccade.export.families.openvla_oft.model import OpenVlaOft, initialise
from saccade.export.models.attention_rows import attention_weights
from saccade.export.steps.policy_checks import model_shape
from saccade.export.steps.single_pass_step import SinglePassStep
from saccade.policies.base import Carry, Grid, ModelShape, Selection, SelectionInputs
from saccade.policies.conformance import TokenPolicyConformance
from saccade.policies.measurements import Measurements
from saccade.policies.methods.spatten import IMPORTANCE, SpAtten, heads_to_remove
from saccade.policies.registry import build_policy
from saccade.policies.testing.dry_run import GRID, SHAPE, draw_scene, play
from saccade.proto.errors import ExportError, PolicyError
from tests.export.samples import CONFIG, observation
from tests.policies import oracles_spatten

REMOVED = ((), (), (), (1,), (1,), (1, 3), (1, 3), (3, 1, 0))


class TestSpAtten(TokenPolicyConformance):
    policy_name = "spatten"


class TestSpAttenTwoCutsFewerHeads(TokenPolicyConformance):
    policy_name = "spatten"
    policy_options = {"cut_layers": [2, 7], "removed_heads": REMOVED}


def spatten(shape: ModelShape = SHAPE, **options: object) -> SpAtten:
    policy = build_policy("spatten", options, shape)
    assert isinstance(policy, SpAtten)
    return policy


@given(seed=st.integers(0, 10_000), keep=st.integers(1, GRID.tokens - 1))
def test_every_cut_equals_the_oracle(seed: int, keep: int) -> None:
    policy = spatten()
    scene = draw_scene(policy, seed, batch=2)
    scene.signals[0][1, 5] = scene.signals[0][1, 6]
    scene.signals[1][0, 9] = torch.nan
    played = play(policy, scene, {}, keep)
    layers = [len(cut.signals[0].layers) for cut in policy.cuts]
    for robot in range(2):
        received = [signal[robot].numpy() for signal in scene.signals]
        expected = oracles_spatten.tokens_left(received, layers, policy.schedule(keep))
        origin = np.arange(GRID.tokens)
        for selection, kept in zip(played.selections, expected, strict=True):
            origin = origin[selection.kept[robot].numpy()]
            assert origin.tolist() == kept


def test_a_layer_counts_as_much_as_another() -> None:
    """Two layers before the first cut, one before the second: the signal is a mean, importance is a sum."""
    policy = spatten(cut_layers=(2, 3))
    scene = draw_scene(policy, 0)
    scene.signals[0].fill_(0.0)
    scene.signals[1].fill_(0.0)
    scene.signals[0][0, 4], scene.signals[1][0, 9] = 0.30, 0.55  # 0.60 after two layers, 0.55 after one
    assert play(policy, scene, {}, 1).kept.tolist() == [[4]]


def test_equal_scores_keep_the_first_tokens() -> None:
    policy = spatten()
    scene = draw_scene(policy, 0)
    for signal in scene.signals:
        signal.fill_(0.01)
    assert play(policy, scene, {}, 3).kept.tolist() == [[0, 1, 2]]


@pytest.mark.parametrize(
    ("layers", "cuts"),
    [(2, (1,)), (3, (1, 2)), (4, (1, 2, 3)), (5, (1, 2, 3, 4)), (8, (1, 2, 4, 6)), (32, (5, 11, 18, 25))],
)
def test_cuts_begin_behind_the_first_layers(layers: int, cuts: tuple[int, ...]) -> None:
    policy = spatten(ModelShape(layers, GRID))
    assert tuple(cut.index for cut in policy.cuts) == policy.config.cut_layers == cuts
    summed = [layer for cut in policy.cuts for layer in cut.signals[0].layers]
    assert summed == list(range(cuts[-1]))  # every layer that has run, once


def test_each_cut_leaves_the_same_fraction() -> None:
    policy = spatten(ModelShape(32, Grid(2, 16, 16)))
    assert policy.schedule(32) == (256, 128, 64, 32)
    assert policy.schedule(0)[-1] == 0 and policy.schedule(0)[0] > 0
    assert policy.schedule(511) == (512, 511, 511, 511)


@given(
    seed=st.integers(0, 10_000),
    layers=st.integers(1, 12),
    heads=st.integers(1, 9),
    share=st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.8, 1.0]),
    steps=st.sampled_from([2, 100]),
)
def test_heads_equal_the_oracle(seed: int, layers: int, heads: int, share: float, steps: int) -> None:
    importance = np.random.default_rng(seed).integers(0, steps, (layers, heads)).astype(float).tolist()
    removed = heads_to_remove(importance, share)
    assert [set(range(heads)) - set(row) for row in removed] == oracles_spatten.heads_left(importance, share)


@given(seed=st.integers(0, 10_000), share=st.floats(0.0, 1.0), group=st.sampled_from([1, 2, 4]))
def test_heads_form_a_cascade_of_whole_groups(seed: int, share: float, group: int) -> None:
    importance = np.random.default_rng(seed).random((10, 8)).tolist()
    removed = heads_to_remove(importance, share, group)
    assert removed[:3] == ((), (), ())  # the first 30 %
    for before, after in pairwise(removed):
        assert set(before) <= set(after)
    for row in removed:
        assert len(row) <= 8 - group and list(row) == sorted(set(row))
        assert {head // group * group + member for head in row for member in range(group)} == set(row)
    assert len(removed[-1]) == min(round(share * 8 / group), 8 // group - 1) * group


def test_a_later_layer_cannot_bring_a_head_back() -> None:
    importance = [[5.0, 1.0], [5.0, 1.0], [0.0, 100.0], [0.0, 100.0]]
    assert heads_to_remove(importance, 0.5) == ((), (), (1,), (1,))


@pytest.mark.parametrize(
    ("importance", "share", "group", "message"),
    [
        ([], 0.5, 1, "expected the importance of each head"),
        ([[]], 0.5, 1, "expected the importance of each head"),
        ([[1.0, 2.0], [1.0]], 0.5, 1, "equally many heads in all layers"),
        ([[1.0, -2.0]], 0.5, 1, "finite and not negative"),
        ([[1.0, float("nan")]], 0.5, 1, "finite and not negative"),
        ([[1.0, float("inf")]], 0.5, 1, "finite and not negative"),
        ([[1.0, 2.0, 3.0]], 0.5, 2, "groups that divide 3 heads, found 0.5 and groups of 2"),
        ([[1.0, 2.0]], 1.5, 1, r"a share in 0\.\.1"),
        ([[1.0, 2.0]], 0.5, 0, "groups of 0"),
    ],
)
def test_tables_that_make_no_sense(
    importance: list[list[float]], share: float, group: int, message: str
) -> None:
    with pytest.raises(PolicyError, match=message):
        heads_to_remove(importance, share, group)


def test_calibration_finds_the_heads_once() -> None:
    table = tuple((1.0, 0.1 * layer, 2.0, 3.0) for layer in range(8))
    measured = Measurements((), (), (), table)
    policy = spatten(head_share=0.5)
    assert policy.needs_calibration and policy.removed_heads == {}
    found = policy.calibrate(measured)
    assert found == {"removed_heads": heads_to_remove(table, 0.5)}
    settled = spatten(**{**policy.config.as_dict(), **found})
    assert not settled.needs_calibration and settled.calibrate(measured) == {}
    assert settled.removed_heads == {
        layer: heads for layer, heads in enumerate(found["removed_heads"]) if heads
    }
    assert len(settled.removed_heads[7]) == 2
    assert not spatten().needs_calibration and spatten().removed_heads == {}
    assert spatten().config.removed_heads == ((),) * 8


def _model(*, kv_heads: int = 4) -> OpenVlaOft:
    decoder = replace(CONFIG.decoder, layers=8, heads=4, kv_heads=kv_heads, head_dim=4)
    return initialise(OpenVlaOft(replace(CONFIG, decoder=decoder)), 2).eval().requires_grad_(False)


class _Watching(SpAtten):
    def select(self, inputs: SelectionInputs, carry: Carry, keep: int) -> Selection:
        selection = super().select(inputs, carry, keep)
        self.made = [*getattr(self, "made", []), (inputs, selection)]
        return selection


def test_in_a_model_importance_is_the_attention_of_every_valid_row_in_every_layer() -> None:
    """Padding neither attends nor counts; behind a cut, only what is left attends."""
    model = _model()
    images, proprio, ids, _, _ = observation(model, batch=2)
    mask, positions = model.sequence_inputs(torch.tensor([2, 6]))
    policy = _Watching(spatten(cut_layers=(2, 5)).config, model_shape(model))
    actions, kept = SinglePassStep(model, policy, 3)(images, proprio, ids, mask, positions)
    assert actions.shape == (2, 2, 3) and kept.shape == (2, 3)
    (first, chosen), (second, chosen_again) = policy.made
    alive = first.origin.gather(1, chosen.kept)
    assert torch.equal(second.origin, alive) and torch.equal(alive.gather(1, chosen_again.kept), kept)
    hidden = model.embed(model.embed_visual(model.visual_tokens(images)), proprio, ids)
    expected = torch.zeros(2, 8)
    for index in range(5):
        if index == 2:
            keep = torch.cat([torch.zeros(2, 1, dtype=torch.int64), alive + 1], dim=1)
            rest = torch.arange(9, mask.shape[1]).expand(2, -1)
            keep = torch.cat([keep, rest], dim=1)
            hidden = hidden.gather(1, keep.unsqueeze(-1).expand(-1, -1, hidden.shape[-1]))
            mask, positions = mask.gather(1, keep), positions.gather(1, keep)
        output = model.decoder.layers[index](
            hidden, model.decoder.rotary(positions), model.decoder.attention_bias(mask)
        )
        weights = attention_weights(
            output.attention.query, output.attention.key, model.decoder.attention_bias(mask)
        )
        rows = mask.float()[:, None, :, None]
        column = (weights * rows).sum(dim=(1, 2)) / 4 / mask.sum(dim=1, keepdim=True)
        visual = column[:, 1 : 1 + (8 if index < 2 else alive.shape[1])]
        expected = (expected if index != 2 else expected.gather(1, alive)) + visual
        hidden = output.hidden
        if index == 1:
            torch.testing.assert_close(chosen.memo[IMPORTANCE], expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(chosen_again.memo[IMPORTANCE], expected, rtol=1e-4, atol=1e-6)


def test_in_a_model_removed_heads_give_nothing() -> None:
    """One cut before any head goes: then the pruned model with muted heads gives the same actions."""
    model, muted = _model(), _model()
    for layer, heads in enumerate(REMOVED):
        for head in heads:
            muted.decoder.layers[layer].self_attn.o_proj.weight[:, head * 4 : head * 4 + 4] = 0.0
    shape, inputs = model_shape(model), observation(model, batch=2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    whole = spatten(shape, cut_layers=(2,))
    fewer = spatten(shape, cut_layers=(2,), removed_heads=REMOVED)
    actions, kept = SinglePassStep(model, fewer, 3)(*inputs)
    expected, expected_kept = SinglePassStep(muted, whole, 3)(*inputs)
    assert torch.equal(kept, expected_kept)
    torch.testing.assert_close(actions, expected, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(actions, SinglePassStep(model, whole, 3)(*inputs)[0], atol=1e-4)
    # With every token, every head stays.
    full = SinglePassStep(model, fewer, CONFIG.grid.tokens)(*inputs)[0]
    torch.testing.assert_close(full, model(*inputs), atol=1e-6, rtol=1e-6)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_measured_heads_of_a_grouped_model_go_in_groups() -> None:
    model = _model(kv_heads=2)
    shape, frame = model_shape(model), observation(model)
    measured = measure(model, [frame])
    policy = spatten(shape, head_share=0.5, head_group=2)
    settled = spatten(shape, **{**policy.config.as_dict(), **policy.calibrate(measured)})
    weak = int(np.argmin(np.array(measured.head_outputs)[:7].sum(axis=0).reshape(2, 2).sum(axis=1)))
    assert settled.removed_heads[7] == (2 * weak, 2 * weak + 1)
    assert SinglePassStep(model, settled, 3)(*frame)[0].isfinite().all()
    with pytest.raises(ExportError, match="in whole groups of 2"):
        SinglePassStep(model, spatten(shape, removed_heads=((1,),) * 8), 3)


def test_layers_that_lack_nothing_are_left_alone() -> None:
    assert spatten(removed_heads=REMOVED).removed_heads == dict(enumerate(REMOVED[3:], start=3))
    assert spatten(removed_heads=()).removed_heads == SpAtten.removed_heads == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cut_layers": (0, 3)}, r"'cut_layers' must be one or more rising numbers in 1\.\.7"),
        ({"cut_layers": (3, 8)}, "'cut_layers' must be one or more rising"),
        ({"cut_layers": ()}, "'cut_layers' must be one or more rising"),
        ({"removed_heads": ((),) * 7}, "'removed_heads' must be the heads each of 8 layers lacks"),
        ({"removed_heads": ((1,), *((),) * 7)}, "at least those that the layer before lacks"),
        ({"removed_heads": ((),) * 7 + ((-1,),)}, "'removed_heads' must be"),
        ({"removed_heads": ((),) * 7 + ((2, 2),)}, "'removed_heads' must be"),
        ({"head_share": 1.0}, "'head_share' must be at least 0 and below 1"),
        ({"head_group": 0}, "'head_group' must be at least 1"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        build_policy("spatten", options, SHAPE)
