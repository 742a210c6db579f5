"""The resizing rule against the functions of transformers' processors."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.qwen2_vl import image_processing_pil_qwen2_vl as pictures

from saccade.export.loading.smart_resize import smart_resize, smart_resize_video
from saccade.proto.errors import ExportError
from tests.export.families.qwen_reference import video_module

SIDES = st.integers(20, 2000)
FACTORS = st.sampled_from([8, 28, 32])
LEAST = st.integers(1, 200_000)
MORE = st.integers(0, 2_000_000)


@settings(max_examples=300, deadline=None)
@given(SIDES, SIDES, FACTORS, LEAST, MORE)
def test_a_picture(height: int, width: int, factor: int, least: int, more: int) -> None:
    expected = pictures.smart_resize(height, width, factor, least, least + more)
    assert smart_resize(height, width, factor=factor, least=least, most=least + more) == expected


@settings(max_examples=300, deadline=None)
@given(st.integers(2, 40), SIDES, SIDES, FACTORS, LEAST, MORE)
def test_a_video(frames: int, height: int, width: int, factor: int, least: int, more: int) -> None:
    expected = video_module().smart_resize(frames, height, width, 2, factor, least, least + more)
    found = smart_resize_video(
        frames, height, width, patch_frames=2, factor=factor, least=least, most=least + more
    )
    assert found == expected


@pytest.mark.parametrize(
    ("camera", "size"),
    [((480, 640), (476, 644)), ((720, 1280), (728, 1288)), ((224, 224), (224, 224)), ((20, 20), (56, 56))],
)
def test_usual_cameras(camera: tuple[int, int], size: tuple[int, int]) -> None:
    """By hand, within the budget that Qwen2.5-VL is published with."""
    assert smart_resize(*camera, factor=28, least=3136, most=12_845_056) == size


def test_what_cannot_be_resized_is_refused() -> None:
    with pytest.raises(ExportError, match="at most 200 times as long as wide, found 2001x10"):
        smart_resize(10, 2001, factor=8, least=1, most=10_000)
    with pytest.raises(ExportError, match="at least 2 frames, found 1; deploy with frames=0"):
        smart_resize_video(1, 64, 64, patch_frames=2, factor=8, least=1, most=10_000)
