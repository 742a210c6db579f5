"""transprune adds up transitions over its cuts, beside the attention of the layer behind each cut."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saccade.export.families.openvla_oft.model import OpenVlaOft, initialise
from saccade.export.steps.policy_checks import model_shape
from saccade.export.steps.single_pass_step import SinglePassStep
from saccade.policies.base import (
    Carry,
    Cut,
    Grid,
    ModelShape,
    Place,
    Selection,
    SelectionInputs,
    TokenPolicy,
)
from saccade.policies.conformance import TokenPolicyConformance
from saccade.policies.methods.transprune import TRANSITION, TransPrune
from saccade.policies.registry import build_policy
from saccade.policies.signals import AttentionAhead, QueryRows, Transition
from saccade.policies.testing.dry_run import GRID, SHAPE, draw_scene, play
from saccade.proto.errors import PolicyError
from tests.export.samples import CONFIG, observation
from tests.policies import oracles_transprune


class TestTransPrune(TokenPolicyConformance):
    policy_name = "transprune"


class TestTransPruneOneCut(TokenPolicyConformance):
    policy_name = "transprune"
    policy_options = {"cut_layers": [5], "kept": [0.2], "alpha": 0.9}


def transprune(shape: ModelShape = SHAPE, **options: object) -> TransPrune:
    policy = build_policy("transprune", options, shape)
    assert isinstance(policy, TransPrune)
    return policy


@given(
    seed=st.integers(0, 10_000),
    keep=st.integers(1, GRID.tokens - 1),
    alpha=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
)
def test_every_cut_equals_the_oracle(seed: int, keep: int, alpha: float) -> None:
    policy = transprune(alpha=alpha)
    scene = draw_scene(policy, seed, batch=2)
    played = play(policy, scene, {}, keep)
    for robot in range(2):
        parts = [signal[robot].numpy() for signal in scene.signals]
        ahead = AttentionAhead(QueryRows.TEXT)
        assert policy.cuts[0].signals[1] == policy.cuts[2].signals[1] == ahead
        # One request may stand at several cuts; on random signals it then has one value.
        moved, attended = [parts[0], parts[2], parts[3]], [parts[1]] * 3
        counts = policy.schedule(keep)
        expected = oracles_transprune.transprune(moved, attended, counts, alpha)
        assert played.kept[robot].tolist() == expected[-1]
        origin = np.arange(GRID.tokens)
        for selection, kept in zip(played.selections, expected, strict=True):
            origin = origin[selection.kept[robot].numpy()]
            assert origin.tolist() == kept


def test_equal_scores_keep_the_first_tokens() -> None:
    policy = transprune()
    scene = draw_scene(policy, 0)
    for signal in scene.signals:
        signal.fill_(0.25)
    assert play(policy, scene, {}, 4).kept.tolist() == [[0, 1, 2, 3]]


def test_a_broken_transition_leaves_the_others_alone() -> None:
    policy = transprune(alpha=1.0)
    scene = draw_scene(policy, 0)
    for part in (0, 2, 3):
        scene.signals[part].copy_(torch.arange(40.0))
    scene.signals[0][0, 39] = torch.nan
    assert play(policy, scene, {}, 3).kept.tolist() == [[36, 37, 38]]


@pytest.mark.parametrize(
    ("layers", "cuts", "kept"),
    [
        (32, (7, 9, 12), (0.875, 0.625, 0.125)),
        (18, (4, 5, 7), (0.875, 0.625, 0.125)),
        (8, (2, 3, 4), (0.875, 0.625, 0.125)),
        (5, (1, 2, 3), (0.875, 0.625, 0.125)),
        (4, (1, 2, 3), (0.875, 0.625, 0.125)),
        (3, (1, 2), (0.625, 0.125)),
        (2, (1,), (0.125,)),
    ],
)
def test_cuts_lie_at_the_papers_depth(layers: int, cuts: tuple[int, ...], kept: tuple[float, ...]) -> None:
    policy = transprune(ModelShape(layers, GRID))
    assert tuple(cut.index for cut in policy.cuts) == policy.config.cut_layers == cuts
    assert policy.config.kept == kept
    summed = [layer for cut in policy.cuts for layer in cut.signals[0].layers]
    assert summed == list(range(cuts[0] - 1, cuts[-1]))


def test_published_counts_of_576_tokens() -> None:
    policy = transprune(ModelShape(32, Grid(1, 24, 24)))
    assert policy.schedule(72) == (504, 360, 72)
    assert policy.schedule(0) == (494, 329, 0)
    assert transprune(ModelShape(32, Grid(1, 24, 24)), kept=(0.5, 0.3, 0.1)).schedule(58) == (288, 173, 58)


class _Watching(TransPrune):
    def select(self, inputs: SelectionInputs, carry: Carry, keep: int) -> Selection:
        selection = super().select(inputs, carry, keep)
        self.seen = [*getattr(self, "seen", []), inputs]
        self.made = [*getattr(self, "made", []), selection]
        return selection


class _Replaying(TokenPolicy):
    """Makes the same cuts, and asks at each for the whole sum of transitions."""

    name = "replaying"

    def __init__(self, config: object, shape: ModelShape) -> None:
        raise NotImplementedError

    @classmethod
    def of(cls, policy: _Watching) -> _Replaying:
        replaying = cls.__new__(cls)
        first = policy.cuts[0].index - 1
        replaying.cuts = tuple(
            Cut(Place.DECODER, cut.index, (Transition(tuple(range(first, cut.index))),))
            for cut in policy.cuts
        )
        replaying.made, replaying.sums = policy.made, []
        return replaying

    def schedule(self, keep: int) -> tuple[int, ...]:
        return tuple(selection.kept.shape[1] for selection in self.made)

    def select(self, inputs: SelectionInputs, carry: Carry, keep: int) -> Selection:
        self.sums.append(inputs.signals[0])
        return Selection(self.made[inputs.cut].kept)


def test_in_a_model_notes_are_the_sums_over_layers() -> None:
    config = replace(CONFIG, decoder=replace(CONFIG.decoder, layers=8))
    model = initialise(OpenVlaOft(config), 1).eval().requires_grad_(False)
    images, proprio, ids, _, _ = observation(model, batch=2)
    mask, positions = model.sequence_inputs(torch.tensor([3, 6]))
    inputs = (images, proprio, ids, mask, positions)
    policy = _Watching(transprune().config, model_shape(model))
    actions, kept = SinglePassStep(model, policy, 2)(*inputs)
    assert actions.shape == (2, 2, 3) and kept.shape == (2, 2)
    assert [selection.kept.shape[1] for selection in policy.made] == [7, 5, 2]
    again = _Replaying.of(policy)
    same, same_kept = SinglePassStep(model, again, 2)(*inputs)
    assert torch.equal(kept, same_kept) and torch.equal(actions, same)
    for seen, selection, total in zip(policy.seen, policy.made, again.sums, strict=True):
        torch.testing.assert_close(selection.memo[TRANSITION], total)
        own = seen.signals[0]  # of the layers since the last cut
        assert (total > own).all() if seen.cut else torch.equal(total, own)
        assert torch.equal(seen.origin.sort(dim=1).values, seen.origin)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 1.1}, r"'alpha' must be in 0\.\.1, found 1.1"),
        ({"cut_layers": ()}, r"'cut_layers' must be one or more rising numbers in 1\.\.7"),
        ({"cut_layers": (0, 2, 4)}, r"'cut_layers' must be one or more rising numbers in 1\.\.7"),
        ({"cut_layers": (2, 2, 4)}, "'cut_layers' must be one or more rising"),
        ({"cut_layers": (2, 4, 8)}, "'cut_layers' must be one or more rising"),
        ({"cut_layers": (1, 2, 3, 4)}, "'kept' must be falling shares below 1, one for each of 4 cuts"),
        ({"kept": (0.5, 0.5, 0.1)}, "'kept' must be falling shares"),
        ({"kept": (1.0, 0.5, 0.1)}, "'kept' must be falling shares"),
        ({"kept": (0.5,)}, "'kept' must be falling shares below 1, one for each of 3 cuts"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        build_policy("transprune", options, SHAPE)


def test_a_decoder_of_one_layer_is_refused() -> None:
    with pytest.raises(PolicyError, match="more than 1 decoder layers"):
        transprune(ModelShape(1, GRID))
