"""How an image processor's file says that pictures are resized."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.image_processor import ImageProcessor, read_image_processor
from saccade.proto.errors import CheckpointError
from saccade.proto.picture_fit import Resample
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
