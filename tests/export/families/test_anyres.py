"""Tiling against transformers: which canvas, which patches become tokens, and every pixel."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.image_processing_utils import get_patch_output_size, select_best_resolution
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.llava_next.modeling_llava_next import LlavaNextModel
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
    LlavaOnevisionImageProcessorPil,
)

from saccade.export.families.anyres import (
    Size,
    TileLayout,
    best_pinpoint,
    cut_tiles,
    lay_out,
    pad_to_square,
    squash,
)
from saccade.export.families.prompt_frame import NEWLINE, grid_items
from saccade.proto.errors import ExportError, ImageError
from tests.export.families.published import pictures

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
        layout = lay_out((height, width), pinpoints, tile_px, tile_px // 14)
    except ExportError:
        assert found is None or 0 in TileLayout(
            picture=(height, width), canvas=found, tile_px=tile_px, side=tile_px // 14
        ).grid  # fmt: skip
        return
    assert layout.canvas == found
    image = np.zeros((3, height, width), np.uint8)
    assert layout.content == get_patch_output_size(image, found, input_data_format="channels_first")
    assert ours(layout) == packed((height, width), layout, pinpoints)


def test_the_published_figures() -> None:
    square = lay_out((672, 672), NEXT, 336, 24)
    assert (square.tiles, len(square.patches), len(ours(square))) == (5, 576 + 2304, 2928)
    camera = lay_out((480, 640), NEXT, 336, 24)
    assert (camera.canvas, camera.content, camera.grid) == ((672, 672), (504, 672), (36, 48))
    small = lay_out((224, 224), NEXT, 336, 24)
    assert (small.canvas, small.tiles, small.grid) == ((336, 672), 3, (24, 24))


@pytest.mark.parametrize("size", [(40, 61), (28, 28), (200, 90), (13, 17), (57, 57), (90, 31), (5, 9)])
def test_pixels_are_those_of_the_reference(size: Size) -> None:
    (picture,) = pictures(1, *size)
    processor = LlavaNextImageProcessorPil(
        size={"shortest_edge": 28},
        crop_size={"height": 28, "width": 28},
        image_grid_pinpoints=[list(point) for point in SMALL],
        do_normalize=False,
        do_rescale=False,
    )
    expected = processor.preprocess([picture], return_tensors="np")["pixel_values"][0]
    tiles = cut_tiles(picture, lay_out(size, SMALL, 28, 4))
    assert tiles.dtype == np.uint8 and tiles.shape == (len(expected), 28, 28, 3)
    np.testing.assert_array_equal(tiles, np.moveaxis(expected, 1, -1))


@pytest.mark.parametrize("size", [(40, 61), (61, 40), (33, 33), (7, 100)])
def test_squares_are_those_of_the_reference(size: Size) -> None:
    views = pictures(2, *size)
    processor = LlavaOnevisionImageProcessorPil(
        size={"height": 28, "width": 28}, image_mean=[0.5, 0.25, 0.9], do_normalize=False, do_rescale=False
    )
    expected = processor.preprocess([list(views)], return_tensors="np")["pixel_values"][:, 0]
    for picture, square in zip(views, expected, strict=True):
        found = squash(pad_to_square(picture, (127, 63, 229)), (28, 28))
        np.testing.assert_array_equal(found, np.moveaxis(square, 0, -1))


def test_the_wrong_picture_is_refused() -> None:
    layout = lay_out((40, 61), SMALL, 28, 4)
    with pytest.raises(
        ImageError, match=r"expected a picture of uint8 \(40, 61, 3\), found uint8 \(61, 40, 3\)"
    ):
        cut_tiles(pictures(1, 61, 40)[0], layout)
    with pytest.raises(ImageError, match="found float32"):
        cut_tiles(pictures(1, 40, 61)[0].astype(np.float32), layout)  # type: ignore[arg-type]


def test_a_picture_of_which_nothing_remains_is_refused() -> None:
    with pytest.raises(ExportError, match="found 1 x 2000 pixels; give image_size"):
        best_pinpoint((1, 2000), SMALL)
    with pytest.raises(ExportError, match="found 1 x 84 pixels"):
        lay_out((1, 84), SMALL, 28, 2)
