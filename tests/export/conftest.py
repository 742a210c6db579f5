"""Tiny checkpoints of every family and one bundle for each policy, made once a run; torch on one thread."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from saccade.export.bundle import recipe
from saccade.export.control.frames import synthetic_recording
from saccade.export.control.pipeline import ExportReport, ExportRequest, export_bundle
from saccade.export.families.checkpoint import Checkpoint
from saccade.export.families.registry import load_checkpoint
from tests.export.families.control_steps import with_embodiment
from tests.export.families.lerobot_reference import use_sizes, write
from tests.export.inspection.tiny_checkpoints import WRITERS, know_tiny_variants
from tests.export.parsed_graphs import HAS_TENSORRT_RTX, and_parse
from tests.export.samples import write_tiny_checkpoint

RATIOS = {"vla_pruner": (1.0, 0.5, 0.25), "random_keep": (1.0, 0.5), "keep_all": (1.0,)}


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _tensorrt_rtx_parses_every_bundle() -> Iterator[None]:
    """Whichever family, kind and profile a test exports, TensorRT-RTX's parser has to take its graphs."""
    with pytest.MonkeyPatch.context() as patch:
        if HAS_TENSORRT_RTX:
            patch.setattr(recipe, "_capture", and_parse(recipe._capture))
        yield


@pytest.fixture(scope="session")
def checkpoint_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="session")
def checkpoint(checkpoint_path: Path) -> Checkpoint:
    return load_checkpoint(checkpoint_path)


@pytest.fixture(scope="session")
def frames_file(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    recording = synthetic_recording(checkpoint, 14)
    path = tmp_path_factory.mktemp("frames") / "frames.npz"
    np.savez(
        path, images=recording.images, proprio=recording.proprio, instruction=np.array(recording.instruction)
    )
    return path


@pytest.fixture(scope="session")
def exported_once(
    checkpoint_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[Path, ExportReport]]:
    """Give the bundle of a policy; it is made when it is asked for the first time."""

    @cache
    def give(policy: str) -> tuple[Path, ExportReport]:
        out = tmp_path_factory.mktemp("bundles") / policy
        request = ExportRequest(
            checkpoint=checkpoint_path, out=out, policy=policy, keep_ratios=RATIOS[policy]
        )
        return out, export_bundle(request, lambda what: None)

    return give


@pytest.fixture(scope="session", params=sorted(RATIOS))
def exported(
    request: pytest.FixtureRequest, exported_once: Callable[[str], tuple[Path, ExportReport]]
) -> tuple[Path, ExportReport]:
    """A bundle of each policy and the report of its export."""
    return exported_once(request.param)


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Give the folder of a family's checkpoint; do not change what is in it."""
    folders: dict[str, Path] = {}

    def give(family: str) -> Path:
        if family not in folders:
            folder = tmp_path_factory.mktemp("inspected") / family.replace(", ", "-")
            WRITERS[family](folder)
            folders[family] = folder
        return folders[family]

    return give


@pytest.fixture
def tiny_variants(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of variants mean tiny models."""
    know_tiny_variants(monkeypatch)


@pytest.fixture(scope="session")
def lerobot_written_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Write a policy's checkpoint when it is asked for the first time."""
    folders: dict[str, Path] = {}

    def folder(policy: str) -> Path:
        if policy not in folders:
            place = tmp_path_factory.mktemp("lerobot") / policy
            folders[policy] = with_embodiment(write(f"{policy}_control", place))
        return folders[policy]

    return folder


@pytest.fixture
def lerobot_written(
    lerobot_written_once: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Path]:
    """The same, with the sizes in our code that its file only names."""

    def folder(policy: str) -> Path:
        place = lerobot_written_once(policy)
        if (place / "dimensions.json").is_file():
            use_sizes(place, monkeypatch)
        return place

    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked ``tensorrt_rtx`` where it is missing; never on Linux x86_64: it comes with ``make test``."""
    if HAS_TENSORRT_RTX:
        return
    for item in items:
        if item.get_closest_marker("tensorrt_rtx"):
            item.add_marker(
                pytest.mark.skip(
                    reason=f"NOT CHECKED: no TensorRT-RTX here ({sys.platform} {platform.machine()})"
                )
            )
