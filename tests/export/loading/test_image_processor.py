"""How an image processor's file says that pictures are resized."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.image_processor import ImageProcessor, read_image_processor, square_fit
from saccade.proto.errors import CheckpointError
from saccade.proto.picture_fit import FitMethod, Resample
from tests.export.families.published import CLIP_PROCESSOR


def written(folder: Path, **fields: object) -> ImageProcessor:
    (folder / "preprocessor_config.json").write_text(
        json.dumps({**CLIP_PROCESSOR, **fields}), encoding="utf-8"
    )
    return read_image_processor(CheckpointFolder(folder))


def test_pillow_s_numbers_are_read(tmp_path: Path) -> None:
    from PIL import Image

    for resample in Resample:
        number = int(Image.Resampling[resample.name])
        assert written(tmp_path, resample=number).resample(Resample.BICUBIC) is resample
    assert written(tmp_path).resample(Resample.LANCZOS) is Resample.LANCZOS


def test_another_way_of_resizing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="resample: expected 1 or 2 or 3, found 0"):
        written(tmp_path, resample=0).resample(Resample.BICUBIC)


@pytest.mark.parametrize(
    ("fields", "method", "background"),
    [
        ({"size": {"shortest_edge": 20}, "do_center_crop": True}, FitMethod.CROP, ()),
        ({"size": {"shortest_edge": 20}}, FitMethod.CROP, ()),
        ({"size": {"height": 20, "width": 20}}, FitMethod.STRETCH, ()),
        ({"size": {"height": 20, "width": 20}, "do_pad": False}, FitMethod.STRETCH, ()),
        ({"size": {"shortest_edge": 20}, "do_pad": True}, FitMethod.PAD, (122, 116, 104)),
    ],
)
def test_a_square_is_made_as_the_file_says(
    tmp_path: Path, fields: dict[str, object], method: FitMethod, background: tuple[int, ...]
) -> None:
    fit = square_fit(written(tmp_path, resample=2, **fields), Resample.BICUBIC)
    assert (fit.method, fit.resample, fit.background) == (method, Resample.BILINEAR, background)


def test_what_makes_no_square_is_refused(tmp_path: Path) -> None:
    processor = written(tmp_path, size={"shortest_edge": 20}, do_center_crop=False)
    with pytest.raises(CheckpointError, match="do_center_crop: expected true"):
        square_fit(processor, Resample.BICUBIC)
