"""vflowopt follows the paper's formulas: importance, entropy, recycling, nested cuts, and the budget over layers."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from saccade.export.families.openvla_oft.model import OpenVlaOft, initialise
from saccade.export.models.attention_rows import attention_weights
from saccade.export.steps.policy_checks import model_shape
from saccade.export.steps.single_pass_step import SinglePassStep
from saccade.policies.base import Carry, Grid, ModelShape, Place, Selection, SelectionInputs
from saccade.policies.blocks.patches import patch_entropy
from saccade.policies.blocks.recycling import cells_of, keep_and_recycle
from saccade.policies.config import Tunable, search_space
from saccade.policies.conformance import TokenPolicyConformance
from saccade.policies.methods.vflowopt import IMPORTANCE, VFlowOpt, VFlowOptConfig
from saccade.policies.registry import build_policy
from saccade.policies.signals import Pixels, VisionMap
from saccade.policies.testing.dry_run import GRID, SHAPE, Scene, draw_scene, play
from saccade.proto.errors import PolicyError
from tests.export.samples import CONFIG, observation
from tests.policies import oracles_vflowopt as oracles

LINES = Grid(2, 3, 4, newline=True)
DEEP = replace(SHAPE, layers=28, grid=Grid(1, 27, 27))


class TestVFlowOpt(TokenPolicyConformance):
    policy_name = "vflowopt"


class TestVFlowOptPlain(TokenPolicyConformance):
    policy_name = "vflowopt"
    policy_options: ClassVar = {"cell": 0.0, "alpha_v": 0.5, "tower": 0, "t": 0.0, "layers": [1, 6]}


class TestVFlowOptSmallCells(TokenPolicyConformance):
    policy_name = "vflowopt"
    policy_options: ClassVar = {"cell": 1.5, "alpha_v": -0.7, "t": 50.0, "block": 0, "r1": 1.2}


def vflowopt(shape: ModelShape = SHAPE, **options: object) -> VFlowOpt:
    policy = build_policy("vflowopt", options, shape)
    assert isinstance(policy, VFlowOpt)
    return policy


def oracle_importance(policy: VFlowOpt, scene: Scene, robot: int, grid: Grid = GRID) -> np.ndarray:
    config = policy.config
    maps = scene.signals[0].numpy().reshape(-1, grid.views, *scene.signals[0].shape[1:])[robot]
    pixels = scene.signals[1][robot].numpy() if config.alpha_v else None
    return oracles.importance(maps, pixels, grid, config.t, config.alpha_v)


thresholds = st.sampled_from([0.0, 0.8, 0.95, 1.0, 1.3, 50.0])


@given(
    seed=st.integers(0, 10_000),
    keep=st.integers(1, GRID.tokens - 1),
    t=thresholds,
    alpha=st.sampled_from([0.0, 1.0, -0.4]),
    cell=st.sampled_from([0.0, 1.0, 1.6, 2.5, 9.0]),
)
def test_all_cuts_equal_the_oracle(seed: int, keep: int, t: float, alpha: float, cell: float) -> None:
    policy = vflowopt(t=t, alpha_v=alpha, cell=cell)
    scene = draw_scene(policy, seed, batch=2)
    played = play(policy, scene, {}, keep)
    counts = policy.schedule(keep)
    for robot in range(2):
        values = oracle_importance(policy, scene, robot)
        cells = len(set(cells_of(GRID, cell))) if cell else 0
        alive, mix = oracles.recycle(values, GRID, cell or 1.0, counts[0], min(cells, counts[0] // 2))
        assert played.selections[0].kept[robot].tolist() == alive
        if cell:
            np.testing.assert_allclose(played.selections[0].mix[robot].numpy(), mix, rtol=1e-3, atol=1e-6)
        for number in (1, 2):
            assert played.inputs[number].origin[robot].tolist() == alive
            best = sorted(alive, key=lambda token: (-values[token], token))[: counts[number]]
            alive = sorted(best)
        assert played.kept[robot].tolist() == alive


@given(seed=st.integers(0, 10_000), t=thresholds, keep=st.integers(1, LINES.tokens - 1))
def test_line_breaks_are_kept_and_not_merged(seed: int, t: float, keep: int) -> None:
    policy = vflowopt(replace(SHAPE, grid=LINES), t=t, alpha_v=0.3, cell=2.0)
    scene = draw_scene(policy, seed, grid=LINES)
    played = play(policy, scene, {}, keep, LINES)
    values = oracle_importance(policy, scene, 0, LINES)
    counts = policy.schedule(keep)
    alive, mix = oracles.recycle(values, LINES, 2.0, counts[0], min(8, counts[0] // 2))
    assert played.selections[0].kept[0].tolist() == alive
    np.testing.assert_allclose(played.selections[0].mix[0].numpy(), mix, rtol=1e-3, atol=1e-6)
    breaks = {token for token in range(LINES.tokens) if token % 4 == 3}
    assert len(breaks) == 6
    if counts[-1] >= 6 and counts[0] - min(8, counts[0] // 2) >= 6:
        assert breaks <= set(played.kept[0].tolist())


@given(
    values=hnp.arrays(np.float32, LINES.tokens, elements=st.sampled_from([0.0, 0.25, 0.5, -0.5, 1.0])),
    side=st.sampled_from([1.0, 1.5, 2.0, 2.75, 9.0]),
    data=st.data(),
)
def test_recycling_of_ties_equals_the_oracle(values: np.ndarray, side: float, data: st.DataObject) -> None:
    keep = data.draw(st.integers(1, LINES.tokens))
    reserved = data.draw(st.integers(0, keep))
    kept, mix = keep_and_recycle(torch.from_numpy(values)[None], cells_of(LINES, side), keep, reserved)
    expected, expected_mix = oracles.recycle(values, LINES, side, keep, reserved)
    assert kept[0].tolist() == expected
    np.testing.assert_allclose(mix[0].numpy(), expected_mix, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(mix[0].sum(dim=1).numpy(), 1.0, rtol=1e-5)


@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.floats(1, 12), st.booleans())
def test_cells_are_numbered_without_gaps(
    views: int, rows: int, columns: int, side: float, newline: bool
) -> None:
    assume(columns > newline)
    cells = cells_of(Grid(views, rows, columns, newline), side)
    numbers = set(cells) - {-1}
    assert numbers == set(range(len(numbers)))
    assert (-1 in cells) == newline
    assert len(numbers) == views * len({int(r // side) for r in range(rows)}) * len(
        {int(c // side) for c in range(columns - newline)}
    )


@given(
    hnp.arrays(
        np.uint8,
        st.tuples(st.integers(1, 3), st.sampled_from([3, 12, 27, 108])),
        elements=st.sampled_from([0, 1, 2, 3, 15, 16, 47, 48, 127, 128, 254, 255]),
    )
)
def test_entropy_equals_the_oracle(patches: np.ndarray) -> None:
    found = patch_entropy(torch.from_numpy(patches).float()[None])[0].numpy()
    np.testing.assert_allclose(found, [oracles.entropy(patch) for patch in patches], atol=1e-5)


def test_entropy_knows_every_grey_level_and_survives_what_is_no_number() -> None:
    ramp = torch.arange(256.0).repeat_interleave(3)
    constant = torch.full((768,), 200.0)
    sums = torch.arange(766.0)  # red alone cannot reach them: spread over the three
    spread = torch.stack([(sums + 2).div(3).floor(), (sums + 1).div(3).floor(), sums.div(3).floor()], dim=-1)
    assert patch_entropy(ramp[None, None])[0, 0].item() == pytest.approx(8.0, abs=1e-5)
    assert patch_entropy(constant[None, None])[0, 0].item() == pytest.approx(0.0, abs=1e-6)
    found = patch_entropy(spread.reshape(1, 1, -1)).item()
    assert found == pytest.approx(oracles.entropy(spread.numpy()), abs=1e-4)
    ramp[::5] = float("nan")
    assert torch.isfinite(patch_entropy(ramp[None, None])).all()


def test_pixels_are_asked_for_only_with_the_entropy_term() -> None:
    assert vflowopt().cuts[0].signals == (VisionMap(3, 1),)
    assert vflowopt(alpha_v=0.1, block=2, tower=0).cuts[0].signals == (VisionMap(2, 0), Pixels())
    assert [cut.signals for cut in vflowopt().cuts[1:]] == [(), ()]
    assert vflowopt().merges and not vflowopt(cell=0.0).merges


def test_a_constant_image_keeps_the_first_tokens() -> None:
    policy = vflowopt(alpha_v=0.5, cell=0.0)
    scene = draw_scene(policy, 0)
    scene.signals[0].fill_(1 / GRID.per_view)
    scene.signals[1].fill_(77.0)
    kept = play(policy, scene, {}, 6).kept[0].tolist()
    assert kept == list(range(policy.schedule(6)[-1]))


@pytest.mark.parametrize(
    ("mean", "cumulative"),
    [(0.501, (0.723, 0.542, 0.264)), (0.251, (0.265, 0.261, 0.229)), (0.100, (0.117, 0.117, 0.070))],
)
def test_default_counts_are_the_published_ones(mean: float, cumulative: tuple[float, ...]) -> None:
    counts = vflowopt(DEEP).schedule(round(mean * 729))
    assert np.array(counts) / 729 == pytest.approx(cumulative, abs=0.005)


@pytest.mark.parametrize(
    ("layers", "cuts"),
    [(3, [0, 1, 2]), (5, [0, 2, 3]), (18, [0, 6, 11]), (28, [0, 9, 18]), (32, [0, 10, 20])],
)
def test_cuts_lie_at_the_published_depth(layers: int, cuts: list[int]) -> None:
    policy = vflowopt(replace(SHAPE, layers=layers))
    assert [cut.index for cut in policy.cuts] == cuts
    assert all(cut.place is Place.DECODER for cut in policy.cuts)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"t": -1.0}, "'t' must be 0 or more"),
        ({"t": float("nan")}, "'t' must be 0 or more"),
        ({"cell": 0.5}, r"'cell' must be 0 \(no merging\) or at least 1, found 0\.5"),
        ({"r1": 0.9}, "'r1' must be at least 1"),
        ({"r2": 0.0}, "'r2' must be above 0"),
        ({"r2": 1.1}, "'r2' must be above 0"),
        ({"taper": 1.5}, "'taper' must be from 0 to 1"),
        ({"r2": 0.9, "taper": 0.5}, "'taper' must be null where r2 is given"),
        ({"alpha_v": float("inf")}, "'alpha_v' must be a number"),
        ({"block": 4}, r"'block' must be in 0\.\.3 for tower 1, found 4"),
        ({"tower": 2}, r"'tower' must be in 0\.\.1"),
        (
            {"layers": [5, 2]},
            r"'layers' must be two rising numbers in 1\.\.7 for 8 decoder layers, found \[5, 2\]",
        ),
        ({"layers": [0, 2]}, "'layers' must be"),
        ({"layers": [3]}, "'layers' must be"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        vflowopt(**options)


def test_defaults_fit_the_grid_and_the_tower() -> None:
    config = vflowopt(DEEP).config
    assert (config.t, config.cell, config.block, config.tower) == (34.76, 15.58, 3, 1)
    towers = (replace(SHAPE.towers[0], blocks=27),)
    assert vflowopt(replace(SHAPE, towers=towers)).config.block == 25
    config = vflowopt(replace(SHAPE, grid=Grid(2, 16, 16))).config
    assert config.t == pytest.approx(34.76 * 256 / 729) and config.cell == pytest.approx(15.58 * 16 / 27)
    assert vflowopt(replace(SHAPE, grid=Grid(2, 1, 1))).config.cell == 1.0


def test_the_search_has_the_published_box_but_for_r2_which_follows_from_taper() -> None:
    assert search_space(VFlowOptConfig, Grid(2, 27, 27).units) == {
        "t": Tunable("float", 0.0, 50 / 729 * 729),
        "cell": Tunable("float", 3 / 27 * 27, 24 / 27 * 27),
        "r1": Tunable("float", 1.0, 1.5),
        "taper": Tunable("float", 0.0, 1.0),
        "alpha_v": Tunable("float", -1.0, 1.0),
    }


@pytest.mark.parametrize("side", [10, 12, 16])
def test_the_box_follows_the_grid(side: int) -> None:
    """Nowhere in it is a view one cell, and no threshold lies where it would on 27 x 27 patches alone."""
    grid = Grid(2, side, side)
    space = search_space(VFlowOptConfig, grid.units)
    assert space["cell"].low >= 1.0
    assert max(cells_of(grid, space["cell"].high)) + 1 > grid.views
    assert space["t"].high == pytest.approx(50.0 * side**2 / 729)


class Watching(VFlowOpt):
    """Remembers what it saw and chose."""

    def __init__(self, config: VFlowOptConfig, shape: ModelShape) -> None:
        super().__init__(config, shape)
        self.seen: list[SelectionInputs] = []
        self.chosen: list[Selection] = []

    def select(self, inputs: SelectionInputs, carry: Carry, keep: int) -> Selection:
        self.seen.append(inputs)
        self.chosen.append(super().select(inputs, carry, keep))
        return self.chosen[-1]


def small_model() -> OpenVlaOft:
    """Two views of 3 x 3 patches, three vision blocks, eight decoder layers."""
    tower = replace(CONFIG.towers[0], image_size=18, depth=3)
    config = replace(CONFIG, towers=(tower,), decoder=replace(CONFIG.decoder, layers=8))
    return initialise(OpenVlaOft(config), 1).eval().requires_grad_(False)


def test_in_a_model_map_pixels_and_notes_are_what_they_claim() -> None:
    model = small_model()
    policy = Watching(VFlowOptConfig(t=1.05, alpha_v=0.4, cell=2.0, block=1), model_shape(model))
    inputs = observation(model, batch=2)
    actions, kept, fate = SinglePassStep(model, policy, 9)(*inputs)
    counts = policy.schedule(9)
    assert len(policy.seen) == 3 and kept.shape == (2, counts[-1]) and torch.isfinite(actions).all()

    tower = model.towers[0]
    hidden = tower.blocks[0](tower.begin(inputs[0].float().flatten(0, 1))).hidden
    output = tower.blocks[1](hidden)
    maps = attention_weights(output.query, output.key)
    torch.testing.assert_close(policy.seen[0].signals[0], maps)
    patches = inputs[0].reshape(2, 2, 3, 6, 3, 6, 3).transpose(3, 4).reshape(2, 18, 108).float()
    assert torch.equal(policy.seen[0].signals[1], patches)
    for robot in range(2):
        grid = model.config.grid
        robots = maps.numpy().reshape(2, 2, *maps.shape[1:])[robot]
        values = oracles.importance(robots, patches[robot].numpy(), grid, 1.05, 0.4)
        alive, mix = oracles.recycle(values, grid, 2.0, counts[0], min(8, counts[0] // 2))
        np.testing.assert_allclose(policy.chosen[0].mix[robot].numpy(), mix, rtol=1e-3, atol=1e-6)
        for number in (1, 2):
            seen = policy.seen[number]
            assert seen.origin[robot].tolist() == alive
            np.testing.assert_allclose(seen.memo[IMPORTANCE][robot].numpy(), values[alive], rtol=1e-4)
            alive = sorted(sorted(alive, key=lambda token: -values[token])[: counts[number]])
        assert kept[robot].tolist() == alive
        # Whoever was merged into a survivor of all three cuts is carried by it.
        first = policy.chosen[0].kept[robot].tolist()
        for token in range(18):
            slots = np.flatnonzero(mix[:, token])
            carrier = first[slots[0]] if len(slots) else -1
            assert fate[robot, token].item() == (carrier if carrier in alive else -1)


def test_in_a_model_a_merged_token_is_the_weighted_mean_of_its_cell() -> None:
    model = small_model()
    policy = Watching(VFlowOptConfig(cell=2.0, r2=1.0), model_shape(model))
    SinglePassStep(model, policy, 6)(*observation(model))
    before, after = policy.seen[0].embeddings[0], policy.seen[1].embeddings[0]
    mix = policy.chosen[0].mix[0]
    assert (mix > 0).sum() > mix.shape[0]  # something was merged
    torch.testing.assert_close(after, mix @ before, rtol=1e-4, atol=1e-5)


def test_in_a_model_all_robots_of_a_batch_are_chosen_for_alone() -> None:
    model, inputs = small_model(), observation(small_model(), batch=3)
    step = SinglePassStep(model, vflowopt(model_shape(model), alpha_v=0.2), 8)
    together = step(*inputs)
    for robot in range(3):
        for one, every in zip(step(*(x[robot : robot + 1] for x in inputs)), together, strict=True):
            torch.testing.assert_close(one, every[robot : robot + 1], atol=1e-5, rtol=1e-5)
