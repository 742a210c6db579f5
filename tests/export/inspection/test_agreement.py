"""A checkpoint of OpenVLA-OFT and its bundle are described alike; other families: in the tests that export them."""

from __future__ import annotations

from pathlib import Path

from saccade.export.control.pipeline import ExportReport
from tests.export.inspection.agreement import check_agreement

MINI = Path(__file__).parents[3] / "sim/saccade_mini/checkpoint"


def test_every_policy_s_bundle_agrees(exported: tuple[Path, ExportReport], checkpoint_path: Path) -> None:
    check_agreement(checkpoint_path, exported[0])
