"""What the embodiment says is read strictly, taken, or contradicted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from saccade.export.families.deployment import Deployment
from saccade.export.families.embodiment import read_embodiment, write_embodiment
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.proto.errors import CheckpointError
from tests.export.samples import EMBODIMENT


def test_it_says_how_the_model_will_be_used(tmp_path: Path) -> None:
    said = replace(EMBODIMENT, image_size=(48, 64), crop=0.9, cameras={"scene": "top"})
    write_embodiment(said, tmp_path)
    found = read_embodiment(CheckpointFolder(tmp_path))
    assert found == said
    assert found.deployment() == Deployment(
        views=2, image_size=(48, 64), crop=0.9, statistics_key=EMBODIMENT.statistics_key
    )
    silent = replace(EMBODIMENT, statistics_key="").deployment()
    assert (silent.image_size, silent.crop, silent.statistics_key) == (None, None, None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": (48, 0)}, r"image_size: expected height and width, found \[48, 0\]"),
        ({"crop": 0.0}, "crop: expected a share of the area above 0, at most 1, found 0.0"),
        ({"crop": 1.5}, "crop: expected a share of the area above 0, at most 1, found 1.5"),
        ({"cameras": {"left": "top"}}, "cameras: expected .* views scene, wrist, each once, found .*left"),
        ({"cameras": {"scene": "top", "wrist": "top"}}, "cameras: .* each once"),
    ],
)
def test_what_makes_no_sense_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_embodiment(replace(EMBODIMENT, **changes), tmp_path)
    with pytest.raises(CheckpointError, match=f"embodiment.json: {message}"):
        read_embodiment(CheckpointFolder(tmp_path))


def test_bytes_that_are_no_text_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "embodiment.json").write_bytes(b"\xff{}")
    with pytest.raises(CheckpointError, match=r"embodiment\.json: .*utf-8"):
        read_embodiment(CheckpointFolder(tmp_path))
