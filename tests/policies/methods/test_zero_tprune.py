"""zero_tprune drops patches between vision blocks: by page rank on attention, and by what resembles a better patch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from saccade.export.families.openvla_oft.model import OpenVlaOft, initialise
from saccade.export.steps.policy_checks import check_placement, model_shape
from saccade.export.steps.single_pass_step import SinglePassStep
from saccade.policies.base import Carry, Grid, ModelShape, Place, Selection, SelectionInputs, TowerShape
from saccade.policies.methods.zero_tprune import (
    STEPS,
    ZeroTPrune,
    ZeroTPruneConfig,
    importance,
    similar_patches,
)
from saccade.policies.registry import build_policy
from saccade.policies.signals import VisionKeys, VisionMap
from saccade.policies.testing.conformance import TokenPolicyConformance, export_to_onnx
from saccade.policies.testing.dry_run import (
    GRID,
    HEADS,
    ONE_TOWER,
    SHAPE,
    WIDTH,
    PolicyStep,
    draw_scene,
    play,
)
from saccade.proto.errors import PolicyError
from tests.export.samples import CONFIG, observation
from tests.policies import oracles_zero_tprune as oracles

FEW = [4, 2, 1]


class TestZeroTPrune(TokenPolicyConformance):
    policy_name = "zero_tprune"
    shape = ONE_TOWER
    keeps = (1, 8, 20, 39)


class TestZeroTPruneTwoCutsAlternating(TokenPolicyConformance):
    policy_name = "zero_tprune"
    policy_options = {"blocks": [1, 5], "iterations": [3, 2], "partition": "alternating", "similar": 0.9}
    shape = ONE_TOWER


class TestZeroTPruneAtTheProjector(TokenPolicyConformance):
    policy_name = "zero_tprune"


def zero(shape: ModelShape = ONE_TOWER, **options: object) -> ZeroTPrune:
    policy = build_policy("zero_tprune", options, shape)
    assert isinstance(policy, ZeroTPrune)
    return policy


@given(
    seed=st.integers(0, 10_000),
    keep=st.integers(1, GRID.tokens - 1),
    share=st.sampled_from([0.0, 0.5, 1.0]),
    partition=st.sampled_from(["sequential", "alternating"]),
)
def test_every_cut_equals_the_oracle(seed: int, keep: int, share: float, partition: str) -> None:
    policy = zero(similar=share, partition=partition, iterations=FEW, light=2)
    played = play(policy, draw_scene(policy, seed), {}, keep)
    for number, (inputs, selection) in enumerate(zip(played.inputs, played.selections, strict=True)):
        graph, keys = (signal.numpy() for signal in inputs.signals)
        for image in range(2):
            expected = oracles.cut(
                graph[image], keys[image], selection.kept.shape[1], iterations=FEW[number], light=2,
                share=share, alternating=partition == "alternating",
            )  # fmt: skip
            assume(expected.margin > 2.0)
            assert selection.kept[image].tolist() == expected.kept


@given(seed=st.integers(0, 10_000), keep=st.integers(1, 20))
def test_at_the_projector_each_view_is_cut_like_the_oracle_cuts_it(seed: int, keep: int) -> None:
    policy = zero(SHAPE, iterations=[3])
    scene = draw_scene(policy, seed, batch=2)
    kept = play(policy, scene, {}, 2 * keep).kept
    graph, keys = scene.signals[0].numpy(), scene.signals[1].reshape(4, 20, WIDTH).numpy()
    for image in range(4):
        expected = oracles.cut(graph[image], keys[image], keep, iterations=3)
        assume(expected.margin > 2.0)
        view = image % 2
        local = [token - 20 * view for token in kept[image // 2].tolist() if token // 20 == view]
        assert local == expected.kept


@pytest.mark.parametrize("iterations", [1, 2, 30])
def test_page_rank_of_some_nodes(iterations: int) -> None:
    graph = (2.0 * torch.randn(1, HEADS, 9, 9, generator=torch.Generator().manual_seed(1))).softmax(dim=-1)
    among = torch.tensor([[True] * 6 + [False] * 3])
    found = importance(graph, among, iterations, (0.0, 100.0))
    expected, _ = oracles.importance(graph[0].numpy(), list(range(6)), iterations, (0.0, 100.0))
    np.testing.assert_allclose(found[0, :6].numpy(), expected[:6], atol=2.0)
    assert (found[0, 6:] == 0).all()


def test_many_iterations_find_the_stationary_distribution() -> None:
    """The principal left eigenvector of a row-stochastic matrix, whatever the start."""
    graph = torch.randn(1, 1, 7, 7, generator=torch.Generator().manual_seed(2)).softmax(dim=-1)
    values, vectors = np.linalg.eig(graph[0, 0].double().numpy().T)
    stationary = np.abs(vectors[:, int(np.argmax(values.real))].real)
    found = importance(graph, torch.ones(1, 7, dtype=torch.bool), 30, (0.0, 100.0))[0].numpy() / STEPS
    np.testing.assert_allclose(found, stationary / stationary.sum() * 7, atol=1e-4)


def _pointing(heads: list[list[float]]) -> Tensor:
    """Each head's rows all alike: one iteration gives exactly that row."""
    rows = torch.tensor(heads)
    return rows[None, :, None, :].expand(1, len(heads), rows.shape[1], rows.shape[1])


def test_heads_that_are_flat_or_stand_on_one_patch_are_left_out() -> None:
    flat, peaked = [0.25, 0.25, 0.25, 0.25], [0.97, 0.01, 0.01, 0.01]
    telling = [0.1, 0.2, 0.3, 0.4]  # variance of 4 * s: 0.2
    everyone = torch.ones(1, 4, dtype=torch.bool)
    expected = torch.round(torch.tensor([[0.4, 0.8, 1.2, 1.6]]) * STEPS)
    for heads in ([telling], [telling, flat], [peaked, telling, flat]):
        found = importance(_pointing(heads), everyone, 1, (0.01, 0.7))
        torch.testing.assert_close(found, expected, atol=1.0, rtol=0.0)
    unfiltered = importance(_pointing([peaked, flat]), everyone, 1, (0.01, 0.7))
    rms = np.sqrt((np.array([3.88, 0.04, 0.04, 0.04]) ** 2 + 1.0) / 2)
    np.testing.assert_allclose(unfiltered[0].numpy() / STEPS, rms, atol=1e-4)


def test_what_matters_to_one_head_outranks_what_all_find_middling() -> None:
    """Means are equal; the root mean square prefers the peak."""
    heads = [[0.4, 0.2, 0.2, 0.2], [0.0, 0.2, 0.3, 0.5]]
    found = importance(_pointing(heads), torch.ones(1, 4, dtype=torch.bool), 1, (0.0, 9.0))[0]
    assert found[0] > found[1]


def test_similarity_drops_the_lesser_patch_of_a_pair() -> None:
    order = torch.tensor([[6.0, 5.0, 4.0, 3.0, 2.0, 1.0]])
    keys = torch.tensor(
        [[[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [0, 0.6, 0.8], [1.0, 1.0, 1.0], [0, 5.0, 0]]]
    )

    def dropped(count: int, *, alternating: bool = False) -> list[int]:
        mask = similar_patches(order, keys, count, alternating=alternating)
        return mask[0].nonzero().flatten().tolist()

    assert dropped(1) == [5]  # parallel to patch 1
    assert dropped(2) == [3, 5]
    assert dropped(3) == [3, 4, 5]
    # Alternating: 1, 3 and 5 are the lesser half; 3 is nearest to 2, cosine 0.8; 1 and 5 to 4, 0.58.
    assert dropped(1, alternating=True) == [3]
    assert dropped(2, alternating=True) == [1, 3]


def test_a_broken_key_is_nobodys_neighbour() -> None:
    order = torch.tensor([[4.0, 3.0, 2.0, 1.0]])
    keys = torch.eye(4)[None].clone()
    keys[0, 0] = torch.nan
    keys[0, 3] = torch.nan
    assert similar_patches(order, keys, 1, alternating=False)[0].tolist() == [False, False, False, True]
    assert similar_patches(order, keys, 2, alternating=False)[0].tolist() == [False, False, True, True]
    keys.fill_(torch.nan)
    assert similar_patches(order, keys, 2, alternating=False)[0].tolist() == [False, False, True, True]


def test_a_blank_image_keeps_patches_in_order() -> None:
    """Equal patches tie exactly, after any number of iterations."""
    policy = zero()
    scene = draw_scene(policy, 0)
    for signal in scene.signals:
        signal.fill_(0.05)
    scene.embeddings.fill_(1.0)
    played = play(policy, scene, {}, 10)
    for selection in played.selections:
        assert torch.equal(selection.kept[0], selection.kept[1])
    again = play(zero(iterations=[99, 1, 50]), scene, {}, 10)
    assert torch.equal(played.kept, again.kept)


def test_a_blank_image_keeps_the_same_patches_in_onnx_runtime(tmp_path: Path) -> None:
    policy = zero(iterations=FEW)
    step = PolicyStep(policy, 10).eval()
    scene = draw_scene(policy, 3)
    feeds = step.flat(scene, {})
    session = export_to_onnx(step, feeds, tmp_path / "policy.onnx")
    for value in (0.05, 1 / 3, 7.0):
        for signal in scene.signals:
            signal.fill_(value)
        scene.signals[0][:, :, :, :5] *= 2  # five patches that all others point at twice as much
        named = {f"input_{i}": tensor.numpy() for i, tensor in enumerate(feeds)}
        used = {node.name for node in session.get_inputs()}
        found = session.run(None, {name: array for name, array in named.items() if name in used})[0]
        expected = step(*feeds)[0]
        np.testing.assert_array_equal(found, expected.numpy())
        assert expected.tolist() == [[0, 1, 2, 3, 4, 20, 21, 22, 23, 24]]


def test_counts_are_multiples_of_the_views() -> None:
    shape = replace(ONE_TOWER, grid=Grid(3, 5, 5))
    for keep in range(1, 76):
        counts = zero(shape).schedule(keep)
        assert all(count % 3 == 0 for count in counts)
        assert keep <= counts[-1] < keep + 3 and counts[0] <= 75
    assert zero(replace(ONE_TOWER, grid=Grid(2, 16, 16))).schedule(128) == (384, 256, 128)


@pytest.mark.parametrize(
    ("depth", "blocks", "iterations"),
    [
        (12, (3, 6, 9), (30, 5, 1)),
        (26, (6, 13, 20), (30, 5, 1)),
        (4, (1, 2, 3), (30, 5, 1)),
        (3, (1, 2), (30, 1)),
        (2, (1,), (30,)),
    ],
)
def test_cuts_lie_between_blocks(depth: int, blocks: tuple[int, ...], iterations: tuple[int, ...]) -> None:
    policy = zero(ModelShape(8, GRID, (TowerShape(depth, has_class_token=False),)))
    assert policy.config.blocks == blocks and policy.config.iterations == iterations
    for cut, block in zip(policy.cuts, blocks, strict=True):
        assert (cut.place, cut.index) == (Place.TOWER, block)
        assert cut.signals == (VisionMap(block - 1, 0), VisionKeys(block - 1, 0))


def test_where_no_tower_can_be_cut_it_acts_at_the_projector() -> None:
    for shape, tower, last in (
        (SHAPE, 1, 3),
        (ModelShape(8, GRID, (TowerShape(1, has_class_token=True),)), 0, 0),
    ):
        policy = zero(shape)
        assert policy.config.blocks == () and policy.config.tower == tower
        (cut,) = policy.cuts
        assert cut.place is Place.PROJECTOR
        assert cut.signals == (VisionMap(last, tower), VisionKeys(last, tower))
    assert zero(SHAPE, tower=0).cuts[0].signals[0] == VisionMap(5, 0)
    assert zero(blocks=()).cuts[0].signals[0] == VisionMap(5, 0)


class _Watching(ZeroTPrune):
    def select(self, inputs: SelectionInputs, carry: Carry, keep: int) -> Selection:
        selection = super().select(inputs, carry, keep)
        self.made = [*getattr(self, "made", []), (inputs, selection.kept)]
        return selection


def _model(*, towers: int = 1, class_token: bool = False) -> OpenVlaOft:
    tower = replace(
        CONFIG.towers[0], image_size=24, depth=4, class_token=class_token, register_tokens=2 * class_token
    )
    return initialise(OpenVlaOft(replace(CONFIG, towers=(tower,) * towers)), 5).eval().requires_grad_(False)


@pytest.mark.parametrize("class_token", [False, True])
def test_in_a_model_blocks_behind_a_cut_see_the_survivors(class_token: bool) -> None:
    """Plain indexing between the blocks gives the same actions; each map is that of the patches alive."""
    model = _model(class_token=class_token)
    policy = _Watching(ZeroTPruneConfig(iterations=tuple(FEW)), model_shape(model))
    inputs = observation(model, batch=2)
    actions, kept = SinglePassStep(model, policy, 11)(*inputs)
    assert [chosen.shape for _, chosen in policy.made] == [(4, 13), (4, 9), (4, 6)]
    assert kept.shape == (2, 12)
    images, proprio, ids, mask, positions = inputs
    (tower,) = model.towers
    prefix = 3 * class_token
    hidden, origin = tower.begin(images.float().flatten(0, 1)), torch.arange(16).expand(4, 16)
    query = key = hidden
    for index, block in enumerate(tower.blocks):
        if index:
            seen, chosen = policy.made[index - 1]
            graph, keys = seen.signals
            heads = query[:, :, prefix:] @ key[:, :, prefix:].transpose(2, 3) / np.sqrt(8)
            torch.testing.assert_close(graph, heads.softmax(dim=-1), atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(keys, key[:, :, prefix:].transpose(1, 2).flatten(2))
            assert torch.equal(seen.origin, origin) and seen.grid == Grid(1, 4, 4)
            for image in range(4):
                expected = oracles.cut(
                    graph[image].numpy(), keys[image].numpy(), chosen.shape[1], iterations=FEW[index - 1]
                )
                assert expected.margin <= 2.0 or chosen[image].tolist() == expected.kept
            origin = origin.gather(1, chosen)
            patches = hidden[:, prefix:].gather(1, chosen.unsqueeze(-1).expand(-1, -1, 16))
            hidden = torch.cat([hidden[:, :prefix], patches], dim=1)
        output = block(hidden)
        hidden, query, key = output.hidden, output.query, output.key
    whole = (origin.reshape(2, 2, 6) + torch.tensor([[0], [16]])).flatten(1)
    assert torch.equal(kept, whole)
    features = tower.finish(hidden).reshape(2, 12, -1)
    embedded = model.embed(model.embed_visual(features), proprio, ids)
    layout = model.layout
    mask, positions = (layout.gather_visual(x, whole) for x in (mask, positions))
    final = model.decoder(embedded, mask, positions)
    states = layout.with_visual(12).answer_states(final, mask)
    torch.testing.assert_close(actions, model.read_actions(states), atol=1e-5, rtol=1e-5)


def test_in_a_model_with_two_towers_it_reads_the_last_block_of_one() -> None:
    model = _model(towers=2)
    policy = _Watching(ZeroTPruneConfig(), model_shape(model))
    check_placement(policy, model)
    actions, kept = SinglePassStep(model, policy, 7)(*observation(model, batch=2))
    assert actions.shape == (2, 2, 3) and kept.shape == (2, 8)
    assert (kept // 16).sum(dim=1).tolist() == [4, 4]  # four of each view
    ((inputs, chosen),) = policy.made
    graph, keys = inputs.signals
    assert graph.shape == (4, 2, 16, 16) and keys.shape == (2, 32, 16)
    torch.testing.assert_close(graph.sum(dim=-1), torch.ones(4, 2, 16))
    assert torch.equal(chosen, kept)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blocks": (0, 2)}, r"'blocks' must be rising numbers in 1\.\.5 for a tower of 6 blocks"),
        ({"blocks": (3, 2)}, "'blocks' must be rising"),
        ({"blocks": (2, 6)}, "'blocks' must be rising"),
        ({"tower": 1}, r"'tower' must be in 0\.\.0 for a model of 1 vision towers, found 1"),
        ({"iterations": (1,)}, r"'iterations' must be a number in 1\.\.100 for each of 3 cuts"),
        ({"iterations": (1, 0, 1)}, "'iterations' must be a number"),
        ({"light": 0}, r"'light' must be in 1\.\.100, found 0"),
        ({"similar": 1.5}, r"'similar' must be in 0\.\.1, found 1.5"),
        ({"variance": (0.5,)}, "'variance' must be two numbers"),
        ({"variance": (0.5, 0.1)}, "'variance' must be two numbers of 0 or more, the lower one first"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        build_policy("zero_tprune", options, ONE_TOWER)
