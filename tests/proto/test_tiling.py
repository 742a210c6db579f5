"""Tiling against transformers: which canvas, and which patches become tokens."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.image_processing_utils import get_patch_output_size, select_best_resolution
from transformers.models.llava_next.modeling_llava_next import LlavaNextModel

from saccade.export.families.prompt_layout import NEWLINE, grid_items
from saccade.proto.errors import ImageError, ManifestError
from saccade.proto.tiling import Size, TileLayout, Tiling, best_pinpoint

NEXT = ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008))
SMALL = tuple((28 * rows, 28 * columns) for rows, columns in ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3)))


def packed(picture: Size, layout: TileLayout, pinpoints: tuple[Size, ...]) -> list[int]:
    """What the reference makes of patches that hold their own number, a line break being -1."""
    patches = torch.arange(layout.tiles * layout.side**2).reshape(layout.tiles, layout.side**2, 1).float()
    config = SimpleNamespace(
        vision_config=SimpleNamespace(image_size=layout.tile_px, patch_size=layout.tile_px // layout.side),
        image_grid_pinpoints=[list(point) for point in pinpoints],
    )
    (tokens,), _ = LlavaNextModel.pack_image_features(
        SimpleNamespace(config=config), [patches], [picture], "default", image_newline=torch.tensor([-1.0])
    )
    return [int(token) for token in tokens[:, 0]]


def ours(layout: TileLayout) -> list[int]:
    """The same from a layout: items in order, visual ones replaced by their patch."""
    patches = iter(layout.patches)
    overview = grid_items(layout.side, layout.side, newline=False)
    items = (*overview, *grid_items(*layout.grid, newline=True))
    return [-1 if item == NEWLINE else next(patches) for item in items]


@settings(deadline=None, max_examples=150)
@given(height=st.integers(1, 2000), width=st.integers(1, 2000), pinpoints=st.sampled_from([NEXT, SMALL]))
def test_tokens_are_those_of_the_reference(height: int, width: int, pinpoints: tuple[Size, ...]) -> None:
    tile_px = min(pinpoints[0])
    found = select_best_resolution((height, width), pinpoints)
    try:
        layout = Tiling(pinpoints, tile_px, tile_px // 14).lay_out((height, width))
    except ImageError:
        assert found is None or 0 in TileLayout(
            picture=(height, width), canvas=found, tile_px=tile_px, side=tile_px // 14
        ).grid  # fmt: skip
        return
    assert layout.canvas == found
    image = np.zeros((3, height, width), np.uint8)
    assert layout.content == get_patch_output_size(image, found, input_data_format="channels_first")
    assert ours(layout) == packed((height, width), layout, pinpoints)


def test_the_published_figures() -> None:
    square = Tiling(NEXT, 336, 24).lay_out((672, 672))
    assert (square.tiles, len(square.patches), len(ours(square))) == (5, 576 + 2304, 2928)
    camera = Tiling(NEXT, 336, 24).lay_out((480, 640))
    assert (camera.canvas, camera.content, camera.grid) == ((672, 672), (504, 672), (36, 48))
    small = Tiling(NEXT, 336, 24).lay_out((224, 224))
    assert (small.canvas, small.tiles, small.grid) == ((336, 672), 3, (24, 24))


def test_a_picture_of_which_nothing_remains_is_refused() -> None:
    with pytest.raises(ImageError, match="found 2000x1 pixels; take a picture"):
        best_pinpoint((1, 2000), SMALL)
    with pytest.raises(ImageError, match="found 84x1 pixels"):
        Tiling(SMALL, 28, 2).lay_out((1, 84))


@pytest.mark.parametrize(
    ("pinpoints", "tile_px", "side"),
    [
        ((), 28, 4),
        (((28, 30),), 28, 4),
        (((28,),), 28, 4),
        (((28, 28),), 0, 4),
        (((28, 28000),), 28, 4),
        (((0, 28),), 28, 4),
        (((28, 28),), 28, 0),
    ],
)
def test_a_tiling_that_cannot_be_is_refused(pinpoints: tuple[Size, ...], tile_px: int, side: int) -> None:
    with pytest.raises(ManifestError, match=r"tiling: expected"):
        Tiling(pinpoints, tile_px, side)
