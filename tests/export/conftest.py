"""One tiny checkpoint and one bundle for each policy, made once a run; torch on one thread."""

from __future__ import annotations

import importlib.util
import platform
import sys
from pathlib import Path

import pytest
import torch

from saccade.export.checkpoint import Checkpoint, load_checkpoint
from saccade.export.pipeline import ExportReport, ExportRequest, export_bundle
from tests.export.samples import write_tiny_checkpoint

RATIOS = {"vla_pruner": (1.0, 0.5, 0.25), "random_keep": (1.0, 0.5), "keep_all": (1.0,)}


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def checkpoint_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="session")
def checkpoint(checkpoint_path: Path) -> Checkpoint:
    return load_checkpoint(checkpoint_path)


@pytest.fixture(scope="session", params=sorted(RATIOS))
def exported(
    request: pytest.FixtureRequest, checkpoint_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, ExportReport]:
    """A bundle of each policy and the report of its export."""
    out = tmp_path_factory.mktemp("bundles") / request.param
    report = export_bundle(
        ExportRequest(
            checkpoint=checkpoint_path, out=out, policy=request.param, keep_ratios=RATIOS[request.param]
        ),
        lambda what: None,
    )
    return out, report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked ``tensorrt_rtx`` where it is missing; never on Linux x86_64: it comes with ``make test``."""
    system = sys.platform, platform.machine()
    if system == ("linux", "x86_64") or importlib.util.find_spec("tensorrt_rtx_bindings") is not None:
        return
    for item in items:
        if item.get_closest_marker("tensorrt_rtx"):
            item.add_marker(
                pytest.mark.skip(reason=f"NOT CHECKED: no TensorRT-RTX here ({' '.join(system)})")
            )
