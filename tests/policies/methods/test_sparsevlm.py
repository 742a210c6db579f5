"""sparsevlm cuts three times by what the raters look at, and merges the best of the rest where asked to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saccade.export.steps.acting_step import StepOutputs
from saccade.export.steps.policy_checks import model_shape
from saccade.policies.base import Cut, Grid, ModelShape, Place, SelectionInputs
from saccade.policies.blocks.budgets import layer_mean
from saccade.policies.conformance import TokenPolicyConformance
from saccade.policies.methods.sparsevlm import (
    PUBLISHED_SURVIVORS,
    SparseVlm,
    SparseVlmConfig,
    clusters_in,
    pooled,
    published_counts,
)
from saccade.policies.registry import build_policy
from saccade.policies.signals import AttentionByRow
from saccade.policies.testing.dry_run import GRID, SHAPE, Played, Scene, draw_scene, play
from saccade.proto.errors import PolicyError
from tests.export.samples import observation
from tests.policies import oracles
from tests.policies import oracles_sparsevlm as sparse_oracles
from tests.policies.deep_model import Recorded, deep_model


class TestSparseVlm(TokenPolicyConformance):
    policy_name = "sparsevlm"


class TestSparseVlmRecycling(TokenPolicyConformance):
    policy_name = "sparsevlm"
    policy_options = {"recycle": True, "cluster_size": 3, "recycled": 0.6}
    keeps = (1, 2, 12, GRID.tokens - 1)


class TestSparseVlmTwoCuts(TokenPolicyConformance):
    policy_name = "sparsevlm"
    policy_options = {"recycle": True, "layers": [3, 5], "dropped": [0.25, 1.0]}


def sparse(shape: ModelShape = SHAPE, **options: object) -> SparseVlm:
    policy = build_policy("sparsevlm", options, shape)
    assert isinstance(policy, SparseVlm)
    return policy


def score_of(inputs: SelectionInputs, robot: int, raters: list[int]) -> np.ndarray:
    """Mean over raters of what each visual token received."""
    rows = inputs.signals[0][robot].numpy()
    return np.mean([rows[j] for j in raters], axis=0).astype(np.float32)


def raters_of(scene: Scene, robot: int) -> list[int]:
    """Found from every visual token, before anything is dropped."""
    return sparse_oracles.text_raters(
        scene.text[robot].numpy(), scene.text_mask[robot].numpy(), scene.embeddings[robot].numpy()
    )


def play_and_check(policy: SparseVlm, scene: Scene, keep: int, grid: Grid = GRID) -> Played:
    """Play a control step; every cut selects and mixes what the oracle does on what it saw."""
    played = play(policy, scene, {}, keep, grid)
    for robot in range(scene.embeddings.shape[0]):
        raters = raters_of(scene, robot)
        alive = list(range(grid.tokens))
        for inputs, selection in zip(played.inputs, played.selections, strict=True):
            score, count = score_of(inputs, robot, raters), selection.kept.shape[1]
            assert inputs.origin[robot].tolist() == alive
            clusters = clusters_in(len(alive), count, policy.config) if policy.config.recycle else 0
            if clusters == 0:
                kept = oracles.top_k(score, count)
                assert selection.mix is None
            else:
                assert selection.mix is not None
                size = pooled(len(alive) - count + clusters, policy.config)
                embeddings = inputs.embeddings[robot].numpy()
                made_of = sparse_oracles.recycled(score, embeddings, count, clusters, size)
                kept = sorted(made_of)
                for row, token in zip(selection.mix[robot], kept, strict=True):
                    assert row.nonzero().flatten().tolist() == made_of[token]
                    torch.testing.assert_close(
                        row[made_of[token]], torch.full((len(made_of[token]),), 1 / len(made_of[token]))
                    )
            assert selection.kept[robot].tolist() == kept
            alive = [alive[token] for token in kept]
    return played


@given(seed=st.integers(0, 10_000), keep=st.integers(1, GRID.tokens - 1))
def test_selection_equals_the_oracle_at_every_cut(seed: int, keep: int) -> None:
    policy = sparse()
    played = play_and_check(policy, draw_scene(policy, seed, batch=2), keep)
    assert [selection.kept.shape[1] for selection in played.selections] == list(policy.schedule(keep))


@given(
    seed=st.integers(0, 10_000),
    keep=st.integers(1, GRID.tokens - 1),
    size=st.sampled_from([1, 3, 10]),
    recycled=st.sampled_from([0.3, 1.0]),
)
def test_recycling_equals_the_oracle_at_every_cut(seed: int, keep: int, size: int, recycled: float) -> None:
    policy = sparse(recycle=True, cluster_size=size, recycled=recycled)
    play_and_check(policy, draw_scene(policy, seed), keep)


@given(seed=st.integers(0, 10_000), keep=st.integers(1, 11), recycle=st.booleans())
def test_one_view_full_of_ties_equals_the_oracle(seed: int, keep: int, recycle: bool) -> None:
    policy, grid = sparse(recycle=recycle, cluster_size=2), Grid(1, 3, 4)
    policy = sparse(ModelShape(8, grid), recycle=recycle, cluster_size=2)
    scene, random = draw_scene(policy, seed, grid=grid), torch.Generator().manual_seed(seed)
    for signal in scene.signals:
        signal.copy_(torch.randint(0, 2, signal.shape, generator=random) / 4)
    scene.embeddings.copy_(torch.randint(0, 2, scene.embeddings.shape, generator=random).float())
    scene.embeddings[..., 2:] = 0.0
    play_and_check(policy, scene, keep, grid)


def test_padding_does_not_rate() -> None:
    policy = sparse()
    scene = draw_scene(policy, 0)
    kept = play(policy, scene, {}, 9).kept
    padding = ~scene.text_mask[0]
    assert padding.any()
    scene.text[0, padding] = 100.0
    for signal in scene.signals:
        signal[0, padding] = float("nan")
    assert torch.equal(play(policy, scene, {}, 9).kept, kept)


def test_later_cuts_use_the_raters_of_the_first() -> None:
    """The survivors alone would elect other raters: those are found once, while every token is there."""
    policy = sparse()
    differs = 0
    for seed in range(20):
        scene = draw_scene(policy, seed)
        played = play_and_check(policy, scene, 3)
        alone = Scene((), (), played.inputs[2].embeddings, scene.text, scene.text_mask, scene.present)
        differs += raters_of(alone, 0) != raters_of(scene, 0)
    assert differs > 0


def test_broken_attention_is_kept_last_and_spreads_nowhere() -> None:
    policy = sparse(recycle=True, cluster_size=3)
    scene = draw_scene(policy, 5)
    for signal in scene.signals:
        signal[:, :, 1::2] = float("nan")
    scene.embeddings[:, 2] = float("nan")
    played = play(policy, scene, {}, 4)
    assert (played.inputs[2].origin % 2 == 0).sum() >= 9
    for selection in played.selections:
        assert selection.mix is not None
        assert torch.isfinite(selection.mix).all()
    broken = int((played.inputs[0].origin[0] == 2).nonzero())
    mix = played.selections[0].mix
    assert mix is not None
    own = (played.selections[0].kept[0] == broken).float()
    assert torch.equal(mix[0, :, broken], own)


@pytest.mark.parametrize(
    ("alive", "keep", "size", "clusters"),
    [
        (576, 300, 10, 9),  # 285 dropped, 86 in the pool
        (40, 40, 10, 0),
        (40, 1, 10, 0),
        (40, 39, 10, 1),
        (40, 2, 10, 1),
        (12, 6, 1, 3),
    ],
)
def test_the_number_of_merged_tokens_is_the_codes_for_what_is_dropped_then(
    alive: int, keep: int, size: int, clusters: int
) -> None:
    config = SparseVlmConfig(recycle=True, cluster_size=size)
    assert clusters_in(alive, keep, config) == clusters


@given(
    alive=st.integers(1, 600),
    data=st.data(),
    size=st.integers(1, 20),
    share=st.sampled_from([0.01, 0.3, 0.9, 1.0]),
)
def test_merged_tokens_fit_into_budget_and_pool(
    alive: int, data: st.DataObject, size: int, share: float
) -> None:
    keep = data.draw(st.integers(1, alive))
    config = SparseVlmConfig(recycle=True, cluster_size=size, recycled=share)
    clusters = clusters_in(alive, keep, config)
    dropped = alive - keep + clusters
    assert clusters == 0 if alive == keep else 0 <= clusters < keep
    assert clusters <= pooled(dropped, config) <= dropped


@pytest.mark.parametrize(
    ("layers", "cuts"),
    [(32, (2, 6, 15)), (18, (1, 3, 8)), (8, (1, 2, 4)), (5, (1, 2, 3)), (3, (1, 2)), (2, (1,))],
)
def test_acts_at_the_papers_depths(layers: int, cuts: tuple[int, ...]) -> None:
    policy = sparse(ModelShape(layers, GRID, causal=True))
    assert policy.cuts == tuple(Cut(Place.DECODER, cut, (AttentionByRow(cut - 1),)) for cut in cuts)
    assert len(policy.schedule(10)) == len(cuts)


@pytest.mark.parametrize(
    ("counts", "mean"),
    [((300, 200, 110), 192), ((303, 110, 36), 128), ((238, 48, 26), 96), ((66, 30, 17), 64)],
)
def test_the_published_counts_come_out(counts: tuple[int, ...], mean: int) -> None:
    policy = sparse(ModelShape(32, Grid(1, 24, 24), causal=True))
    assert policy.schedule(counts[-1]) == counts
    assert layer_mean(576, (2, 6, 15), counts, 32) == pytest.approx(mean, rel=0.1)


@given(keep=st.integers(1, 576), cuts=st.integers(1, 3))
def test_counts_between_published_budgets_are_interpolated(keep: int, cuts: int) -> None:
    counts = published_counts(576, keep, cuts)
    assert list(counts) == sorted(counts, reverse=True) and len(counts) == cuts and counts[-1] == keep
    table = np.array(PUBLISHED_SURVIVORS)[:, 3 - cuts :]
    expected = [np.interp(keep, table[:, -1], column) for column in table.T]
    assert np.abs(np.array(counts) - expected).max() <= 0.5


def test_shares_that_are_given_count_as_before() -> None:
    given_shares = sparse(ModelShape(32, Grid(1, 24, 24)), dropped=[276 / 466, 376 / 466, 1.0])
    assert given_shares.schedule(36) == (256, 140, 36)


def run(
    model: object, policy: SparseVlm, keep: int, inputs: tuple[torch.Tensor, ...]
) -> tuple[Recorded, StepOutputs]:
    recorded = Recorded(model, policy, keep)
    return recorded, recorded.run(inputs)


def test_placed_in_a_model_it_sees_each_words_attention_among_survivors() -> None:
    model, inputs = deep_model(), observation(deep_model(), batch=2)
    recorded, out = run(model, sparse(model_shape(model)), 5, inputs)
    assert [selection.kept.shape for _, selection in recorded.seen] == [(2, 17), (2, 10), (2, 5)]
    assert out.kept.shape == (2, 5)
    first = recorded.seen[0][0]
    text = model.decoder.embed_tokens(inputs[2])
    torch.testing.assert_close(first.text, text)
    assert first.text_mask.sum(dim=1).tolist() == [4, 4]
    # By hand: layer 0 on everything, softmax over all keys, the text rows at the visual columns.
    hidden = model.embed(model.embed_visual(model.visual_tokens(inputs[0])), inputs[1], inputs[2])
    decoder, layer = model.decoder, model.decoder.layers[0]
    output = layer(hidden, decoder.rotary(inputs[4]), decoder.attention_bias(inputs[3]))
    query, key = output.attention.query, output.attention.key
    logits = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    weights = logits.masked_fill(~inputs[3][:, None, None], float("-inf")).softmax(dim=-1).mean(dim=1)
    rows = weights[:, model.layout.span("text"), model.layout.span("visual")]
    torch.testing.assert_close(first.signals[0], rows, atol=1e-6, rtol=1e-4)
    for robot in range(2):
        scene = Scene((), (), first.embeddings, first.text, first.text_mask, first.origin.float())
        raters, alive = raters_of(scene, robot), list(range(32))
        for seen, selection in recorded.seen:
            assert seen.origin[robot].tolist() == alive
            kept = oracles.top_k(score_of(seen, robot, raters), selection.kept.shape[1])
            alive = [alive[token] for token in kept]
        assert out.kept[robot].tolist() == alive
    assert torch.isfinite(out.actions).all()


def test_placed_in_a_model_recycled_tokens_carry_what_joined_them() -> None:
    model, inputs = deep_model(), observation(deep_model())
    policy = sparse(model_shape(model), recycle=True, cluster_size=2, recycled=1.0)
    recorded, out = run(model, policy, 8, inputs)
    (first, selection), (second, _), _ = recorded.seen
    assert selection.mix is not None
    torch.testing.assert_close(second.embeddings, selection.mix @ first.embeddings, atol=1e-5, rtol=1e-4)
    # With everything in the pool, each token lives on in some survivor.
    survivors = set(out.kept[0].tolist())
    assert set(out.fate[0].tolist()) == survivors
    assert all(out.fate[0, token] == token for token in survivors)
    plain = run(model, sparse(model_shape(model)), 8, inputs)[1]
    assert not torch.allclose(out.actions, plain.actions, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"layers": [0, 2]},
            r"'layers' must be rising and in 1\.\.7 for a decoder of 8 layers, found \[0, 2\]",
        ),
        ({"layers": [2, 2, 3]}, "'layers' must be rising"),
        ({"layers": [2, 3, 8]}, "'layers' must be rising"),
        ({"layers": []}, "'layers' must be rising"),
        ({"layers": [1, 2, 3, 4]}, "'dropped' must be 4 shares, one for each cut, that rise to 1.0, found"),
        ({"layers": [1, 2], "dropped": [1.0]}, "'dropped' must be 2 shares"),
        ({"dropped": [0.5, 0.2, 1.0]}, "'dropped' must be 3 shares"),
        ({"dropped": [0.5, 0.9]}, "'dropped' must be 2 shares"),
        ({"dropped": [0.1, 0.2, 0.5, 1.0]}, "'dropped' must be 3 shares"),
        ({"recycled": 0.0}, "'recycled' must be above 0 and at most 1, found 0.0"),
        ({"cluster_size": 0}, "'cluster_size' must be 1 or more, found 0"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        build_policy("sparsevlm", options, SHAPE)


def test_a_decoder_of_one_layer_is_refused() -> None:
    with pytest.raises(PolicyError, match="expected more than 1 decoder layers"):
        sparse(ModelShape(1, GRID))
