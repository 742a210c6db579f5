"""todre follows the paper's formulas in both published forms, and drops everything late only where that is safe."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saccade.export.families.openvla_oft.model import OpenVlaOft, initialise
from saccade.export.models.attention_rows import attention_weights
from saccade.export.steps.policy_checks import model_shape
from saccade.export.steps.single_pass_step import SinglePassStep
from saccade.policies.base import Carry, Grid, ModelShape, Place, Selection, SelectionInputs, TowerShape
from saccade.policies.blocks.diversity import farthest_first, max_sum_diversity
from saccade.policies.conformance import TokenPolicyConformance
from saccade.policies.measurements import Measurements
from saccade.policies.methods.todre import ToDre, stage2_is_safe
from saccade.policies.registry import build_policy
from saccade.policies.signals import VisionAttention, VisionRows
from saccade.policies.testing.dry_run import GRID, SHAPE, draw_scene, initial_carry, play
from saccade.proto.errors import PolicyError
from tests.export.samples import CONFIG, observation
from tests.policies import oracles_todre as oracles

LINES = Grid(2, 3, 4, newline=True)
PATCHES = [token for token in range(LINES.tokens) if token % 4 != 3]
form_of = st.sampled_from(["max_sum", "k_centre"])


class TestToDre(TokenPolicyConformance):
    policy_name = "todre"


class TestToDreKCentrePerView(TokenPolicyConformance):
    policy_name = "todre"
    policy_options: ClassVar = {"form": "k_centre", "budget": "per_view", "tower": 0}


class TestToDreStage2(TokenPolicyConformance):
    policy_name = "todre"
    policy_options: ClassVar = {"stage2": "on", "pivot": "first"}


def todre(shape: ModelShape = SHAPE, **options: object) -> ToDre:
    policy = build_policy("todre", options, shape)
    assert isinstance(policy, ToDre)
    return policy


@given(seed=st.integers(0, 10_000), keep=st.integers(1, GRID.tokens - 1), form=form_of)
def test_selection_equals_the_oracle(seed: int, keep: int, form: str) -> None:
    policy = todre(form=form)
    scene = draw_scene(policy, seed, batch=2)
    kept = play(policy, scene, {}, keep).kept
    for robot in range(2):
        everyone = range(GRID.tokens)
        pivot = oracles.pivot_of(scene.signals[0][robot].numpy(), everyone)
        embeddings = scene.embeddings[robot].numpy()
        assert kept[robot].tolist() == oracles.FORMS[form](embeddings, everyone, pivot, keep)


@given(seed=st.integers(0, 10_000), keep=st.integers(1, GRID.tokens - 1), form=form_of)
def test_per_view_selection_equals_the_oracle_on_each_view(seed: int, keep: int, form: str) -> None:
    policy = todre(form=form, budget="per_view")
    scene = draw_scene(policy, seed)
    expected: list[int] = []
    for view, share in enumerate(((keep + 1) // 2, keep // 2)):
        candidates = range(view * GRID.per_view, (view + 1) * GRID.per_view)
        if share:
            pivot = oracles.pivot_of(scene.signals[0][0].numpy(), candidates)
            expected += oracles.FORMS[form](scene.embeddings[0].numpy(), candidates, pivot, share)
    assert play(policy, scene, {}, keep).kept[0].tolist() == expected


@given(
    seed=st.integers(0, 10_000),
    keep=st.integers(1, LINES.tokens),
    budget=st.sampled_from(["joint", "per_view"]),
)
def test_line_breaks_are_no_candidates(seed: int, keep: int, budget: str) -> None:
    policy = todre(replace(SHAPE, grid=LINES), budget=budget)
    scene = draw_scene(policy, seed, grid=LINES)
    scene.signals[0][:, 3::4] = 1e3  # would be the pivot
    kept = play(policy, scene, {}, keep, LINES).kept[0].tolist()
    breaks = [token for token in kept if token % 4 == 3]
    # A view of 12 tokens has 3 line breaks: they come in only when its patches are used up.
    if budget == "joint":
        assert breaks == list(range(3, LINES.tokens, 4))[: max(0, keep - len(PATCHES))]
        few = min(keep, len(PATCHES))
        pivot = oracles.pivot_of(scene.signals[0][0].numpy(), PATCHES)
        expected = oracles.max_sum(scene.embeddings[0].numpy(), PATCHES, pivot, few)
        assert [token for token in kept if token % 4 != 3] == expected
    else:
        assert len(breaks) == sum(max(0, share - 9) for share in ((keep + 1) // 2, keep // 2))


@given(
    rows=st.lists(
        st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=3, max_size=3), min_size=1, max_size=10
    ),
    data=st.data(),
)
def test_duplicates_opposites_and_zero_vectors_equal_the_oracle(
    rows: list[list[float]], data: st.DataObject
) -> None:
    embeddings = np.array(rows, dtype=np.float32)
    pivot = data.draw(st.integers(0, len(rows) - 1))
    keep = data.draw(st.integers(1, len(rows)))
    for form, block in (("max_sum", max_sum_diversity), ("k_centre", farthest_first)):
        picks = block(torch.from_numpy(embeddings)[None], torch.tensor([[pivot]]), keep)[0].tolist()
        assert picks[0] == pivot
        assert sorted(picks) == oracles.FORMS[form](embeddings, range(len(rows)), pivot, keep)


@pytest.mark.parametrize("form", ["max_sum", "k_centre"])
def test_broken_embeddings_are_picked_last(form: str) -> None:
    policy = todre(form=form)
    scene = draw_scene(policy, 3)
    broken = list(range(0, GRID.tokens, 4))
    scene.embeddings[:, broken] = float("nan")
    scene.signals[0][:, broken] = 7.0  # not even as the pivot
    sound = [token for token in range(GRID.tokens) if token not in broken]
    assert play(policy, scene, {}, len(sound)).kept[0].tolist() == sound
    assert play(policy, scene, {}, len(sound) + 1).kept[0].tolist() == sorted([0, *sound])


def test_equal_tokens_are_taken_in_order() -> None:
    for form in ("max_sum", "k_centre"):
        policy = todre(form=form)
        scene = draw_scene(policy, 3)
        scene.embeddings.fill_(0.3)
        scene.signals[0].fill_(0.1)
        assert play(policy, scene, {}, 5).kept[0].tolist() == [0, 1, 2, 3, 4]


def test_the_pivot_is_what_the_class_token_looks_at() -> None:
    # The second tower of the dry run's model has a class token.
    assert todre().cuts[0].signals == (VisionAttention(VisionRows.CLASS, (3,), 1),)
    assert todre().config.tower == 1
    assert todre(tower=0).cuts[0].signals == (VisionAttention(VisionRows.PATCHES, (5,), 0),)
    plain = ModelShape(5, GRID, (TowerShape(4, False), TowerShape(6, False)))
    assert todre(plain).cuts[0].signals == (VisionAttention(VisionRows.PATCHES, (5,), 1),)
    assert todre(pivot="first").cuts[0].signals == ()
    scene = draw_scene(todre(pivot="first"), 0)
    assert play(todre(pivot="first"), scene, {}, 1).kept.tolist() == [[0]]


@pytest.mark.parametrize(("layers", "layer"), [(2, 1), (3, 2), (5, 4), (18, 15), (28, 24), (32, 28)])
def test_stage_2_drops_everything_at_seven_eighths(layers: int, layer: int) -> None:
    policy = todre(replace(SHAPE, layers=layers), stage2="on")
    assert [(cut.place, cut.index) for cut in policy.cuts] == [(Place.DECODER, 0), (Place.DECODER, layer)]
    assert policy.schedule(9) == (9, 0)
    assert todre(replace(SHAPE, layers=layers)).schedule(9) == (9,)
    assert policy.config.stage2_layer == layer


def test_safe_means_that_almost_no_sample_exchanges_anything() -> None:
    low, high = 0.0999, 0.1
    assert stage2_is_safe([low] * 99 + [high], [low] * 100)
    assert stage2_is_safe([low] * 100, [high] + [low] * 99)
    assert not stage2_is_safe([low] * 98 + [high] * 2, [low] * 100)
    assert not stage2_is_safe([low] * 99 + [high], [high] + [low] * 99)  # two samples, one share each
    assert not stage2_is_safe([float("nan")] * 2 + [low] * 98, [low] * 100)
    assert stage2_is_safe([0.4] * 2, [0.1] * 2, threshold=0.5)
    assert stage2_is_safe([0.4, 0.6], [0.1] * 2, threshold=0.5, share=0.5)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=30),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_safe_equals_counting(pairs: list[tuple[float, float]], threshold: float, share: float) -> None:
    text, visual = [tv for tv, _ in pairs], [vt for _, vt in pairs]
    below = 0
    for tv, vt in pairs:
        if tv < threshold and vt < threshold:
            below += 1
    assert stage2_is_safe(text, visual, threshold, share) == (below / len(pairs) >= share)


@pytest.mark.parametrize(("text", "visual"), [([], []), ([0.1], [0.1, 0.1])])
def test_safe_needs_samples(text: list[float], visual: list[float]) -> None:
    with pytest.raises(PolicyError, match="for each calibration sample, found"):
        stage2_is_safe(text, visual)


def measured(text: float, visual: float, action: float, layer: int, layers: int = 8) -> Measurements:
    """Three frames in which one layer exchanges this much and the others everything."""

    def table(share: float) -> tuple[tuple[float, ...], ...]:
        return tuple(
            tuple(float(share) if index == layer else 1.0 for index in range(layers)) for _ in range(3)
        )

    return Measurements(table(text), table(visual), table(action), ())


def test_calibration_decides_what_was_left_open() -> None:
    policy = todre(stage2="auto")
    assert policy.needs_calibration and len(policy.cuts) == 1 and policy.config.stage2_layer == 7
    assert policy.calibrate(measured(0.05, 0.05, 0.05, layer=7)) == {"stage2": "on"}
    assert policy.calibrate(measured(0.2, 0.05, 0.05, layer=7)) == {"stage2": "off"}
    assert policy.calibrate(measured(0.05, 0.2, 0.05, layer=7)) == {"stage2": "off"}
    assert policy.calibrate(measured(0.05, 0.05, 0.2, layer=7)) == {"stage2": "off"}
    assert policy.calibrate(measured(0.05, 0.05, 0.05, layer=6)) == {"stage2": "off"}
    for decided in ("on", "off"):
        policy = todre(stage2=decided)
        assert not policy.needs_calibration and policy.calibrate(measured(1, 1, 1, layer=7)) == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tower": 2}, r"'tower' must be in 0\.\.1"),
        (
            {"stage2": "on", "stage2_layer": 8},
            r"'stage2_layer' must be in 1\.\.7 for 8 decoder layers, found 8",
        ),
        ({"stage2_layer": 0}, r"'stage2_layer' must be in 1\.\.7"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        todre(**options)


def small_model(*, class_token: bool) -> OpenVlaOft:
    """Two views of 3 x 3 patches, three vision blocks, eight decoder layers."""
    tower = replace(CONFIG.towers[0], image_size=18, depth=3, class_token=class_token)
    config = replace(CONFIG, towers=(tower,), decoder=replace(CONFIG.decoder, layers=8))
    return initialise(OpenVlaOft(config), 1).eval().requires_grad_(False)


class Watching(ToDre):
    """Remembers what it saw."""

    seen: SelectionInputs

    def select(self, inputs: SelectionInputs, carry: Carry, keep: int) -> Selection:
        self.seen = inputs
        return super().select(inputs, carry, keep)


@pytest.mark.parametrize("class_token", [True, False])
def test_in_a_model_the_attention_is_the_last_blocks(class_token: bool) -> None:
    model = small_model(class_token=class_token)
    policy = Watching(ToDre.options(stage2="on"), model_shape(model))
    inputs = observation(model, batch=2)
    actions, kept = SinglePassStep(model, policy, 5)(*inputs)
    assert actions.shape == (2, 2, 3) and torch.isfinite(actions).all()
    assert kept.shape == (2, 5) and (kept.diff(dim=1) > 0).all()

    tower = model.towers[0]
    hidden = tower.begin(inputs[0].float().flatten(0, 1))
    for block in tower.blocks:
        output = block(hidden)
        hidden = output.hidden
    prefix = tower.config.prefix_tokens
    rows = output.query[:, :, :1] if class_token else output.query[:, :, prefix:]
    expected = attention_weights(rows, output.key[:, :, prefix:]).mean(dim=(1, 2)).reshape(2, -1)
    torch.testing.assert_close(policy.seen.signals[0], expected)
    embeddings = policy.seen.embeddings
    for robot in range(2):
        everyone = range(18)
        pivot = oracles.pivot_of(expected[robot].numpy(), everyone)
        assert kept[robot].tolist() == oracles.max_sum(embeddings[robot].numpy(), everyone, pivot, 5)


def test_in_a_model_stage_2_leaves_no_visual_token_behind() -> None:
    """What comes behind the cut equals a decoder that is handed the sequence without its visual part."""
    model = small_model(class_token=False)
    policy, inputs = todre(model_shape(model), stage2="on"), observation(model)
    step = SinglePassStep(model, policy, 5)
    assert step.survivors == 5
    actions, kept = step(*inputs)
    images, proprio, ids, mask, positions = inputs
    decoder = model.decoder
    hidden = model.embed(model.embed_visual(model.visual_tokens(images)), proprio, ids)
    alive = [0, *(1 + token for token in kept[0].tolist()), *range(19, hidden.shape[1])]
    hidden, mask, positions = hidden[:, alive], mask[:, alive], positions[:, alive]
    for index, layer in enumerate(decoder.layers):
        if index == 7:
            rest = [0, *range(6, hidden.shape[1])]
            hidden, mask, positions = hidden[:, rest], mask[:, rest], positions[:, rest]
        hidden = layer(hidden, decoder.rotary(positions), decoder.attention_bias(mask)).hidden
    states = model.layout.with_visual(0).answer_states(decoder.norm(hidden), mask)
    torch.testing.assert_close(actions, model.read_actions(states), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(actions, SinglePassStep(model, todre(model_shape(model)), 5)(*inputs)[0])


def test_carries_nothing() -> None:
    assert initial_carry(todre()) == {}
