"""Every pixel of an overlay belongs to a token, and shows what became of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saccade.proto.manifest import GridSpec
from saccade.sim.report.overlay import DROPPED_RGBA, OUTLINE_RGBA, over, overlaid, tint, token_layer

GRID = GridSpec(views=2, rows=2, columns=3)
SIDE = 24


def layer_of(fate: list[int], view: int, *, height: int = 2 * SIDE, width: int = 3 * SIDE) -> np.ndarray:
    return token_layer(np.array(fate), GRID, view, height=height, width=width)


def tile(layer: np.ndarray, token: int) -> np.ndarray:
    row, column = divmod(token % 6, 3)
    return layer[row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE]


def colours(pixels: np.ndarray) -> set[tuple[int, ...]]:
    return {tuple(map(int, pixel)) for pixel in pixels.reshape(-1, pixels.shape[-1])}


def test_dropped_tokens_are_dark_and_kept_ones_clear_inside_their_outline() -> None:
    fate = [-1] * 12
    for kept in (1, 6 + 4):
        fate[kept] = kept
    layer = layer_of(fate, 1)
    for token in range(6):
        if token != 4:
            assert colours(tile(layer, token)) == {DROPPED_RGBA}
    kept = tile(layer, 4)
    assert colours(kept) == {OUTLINE_RGBA, (0, 0, 0, 0)}
    assert colours(kept[1:-1, 1:-1]) == {(0, 0, 0, 0)}
    assert colours(kept[0]) == {OUTLINE_RGBA}


def test_the_outline_runs_around_the_region_and_not_through_it() -> None:
    layer = layer_of([0, 1, -1, 3, 4, -1, *range(6, 12)], 0)
    assert colours(layer[:, SIDE - 1 : SIDE + 1][1:-1]) == {(0, 0, 0, 0)}
    assert colours(layer[:, 2 * SIDE - 1]) == {OUTLINE_RGBA}


def test_merged_tokens_have_the_colour_of_their_survivor_and_point_to_it() -> None:
    layer = layer_of([0, 0, -1, 7, 4, 4, 6, 7, 8, 9, 10, 11], 0)
    assert tint(0) != tint(4) != tint(7)
    for token, survivor in ((1, 0), (5, 4), (3, 7)):
        found = colours(tile(layer, token))
        assert {colour[:3] for colour in found} == {tint(survivor)} and len(found) == 2, "tint and mark"
    for survivor in (0, 4):
        assert tint(survivor) in {colour[:3] for colour in colours(tile(layer, survivor)[1])}, "its frame"
    (fill,) = colours(tile(layer, 1)[:4, :4])
    marked = np.argwhere((tile(layer, 1) != fill).any(-1))
    assert marked[:, 1].max() <= SIDE / 2 and marked[:, 1].min() < SIDE / 4, "the survivor lies to the left"
    assert set(marked[:, 0]) <= {SIDE // 2 - 1, SIDE // 2}
    dot = np.argwhere((tile(layer, 3) != tile(layer, 3)[0, 0]).any(-1))
    assert np.abs(dot - (SIDE - 1) / 2).max() <= 1, "the survivor lies in another view"


def test_a_survivor_of_another_view_is_framed_there() -> None:
    layer = layer_of([0, 1, 2, 7, 4, 5, 6, 7, 8, 9, 10, 11], 1)
    assert {colour[:3] for colour in colours(tile(layer, 7)[0])} == {tint(7)}
    layer[:SIDE, SIDE : 2 * SIDE] = 0
    assert not layer.any()


def test_nothing_is_drawn_where_everything_was_kept() -> None:
    assert not layer_of(list(range(12)), 0).any()


@pytest.mark.parametrize("scale", [1, 3])
def test_the_frame_is_untouched_where_tokens_were_kept(scale: int) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (2 * SIDE, 3 * SIDE, 3), np.uint8)
    plain = overlaid(frame, np.arange(12), GRID, 0, scale=scale)
    shown = overlaid(frame, np.array([0, *[-1] * 11]), GRID, 0, scale=scale)
    assert shown.shape == (2 * SIDE * scale, 3 * SIDE * scale, 3) and shown.dtype == np.uint8
    side, edge = SIDE * scale, 1 + scale // 2
    inner = slice(edge, side - edge)
    np.testing.assert_array_equal(shown[inner, inner], plain[inner, inner])
    assert shown[side:].mean() < 0.4 * plain[side:].mean()
    if scale == 1:
        np.testing.assert_array_equal(plain, frame)


@given(
    rows=st.integers(1, 7), columns=st.integers(1, 7), height=st.integers(7, 40), width=st.integers(7, 40),
    data=st.data(),
)  # fmt: skip
def test_any_fate_on_any_frame(rows: int, columns: int, height: int, width: int, data: st.DataObject) -> None:
    grid = GridSpec(views=2, rows=rows, columns=columns)
    kept = data.draw(st.sets(st.integers(0, grid.tokens - 1), min_size=1))
    elsewhere = st.sampled_from([-1, *sorted(kept)])
    fate = np.array([n if n in kept else data.draw(elsewhere) for n in range(grid.tokens)])
    for view in range(2):
        layer = token_layer(fate, grid, view, height=height, width=width)
        assert layer.shape == (height, width, 4) and layer.dtype == np.uint8
        own = range(view * rows * columns, (view + 1) * rows * columns)
        lost = [n for n in own if fate[n] != n]
        edges = [round(column * width / columns) for column in range(columns + 1)]
        for token in lost:
            row, column = divmod(token - own.start, columns)
            top, bottom = round(row * height / rows), round((row + 1) * height / rows)
            assert layer[top:bottom, edges[column] : edges[column + 1], 3].all(), "covered to its last pixel"
        shown = over(np.zeros((height, width, 3), np.uint8), layer)
        assert shown.shape == (height, width, 3)
