"""The chart of engines, and of nothing that was not measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from click.testing import CliRunner

from benchmarks.charts import main as draw


def cell(profile: str, way: str, p50_us: float) -> dict[str, Any]:
    return {
        "profile": profile, "way": way, "p50_us": p50_us, "limit_us": 500.0, "share_of_roofline": 0.5,
        "measured_over_predicted": {"median": 1.1},
    }  # fmt: skip


def test_every_way_of_every_profile_is_a_bar(tmp_path: Path) -> None:
    cells = [cell(profile, way, 1000.0) for profile in ("full", "keep25") for way in ("eager", "ort-cpu")]
    cells[0]["p50_us"] = 2000.0
    entry = {
        "model": "oft-shaped", "size": "0.1b", "has_random_weights": True, "parameters": 10**8, "is_busy": True,
        "shape": "two views; 512 visual tokens", "cells": cells,
    }  # fmt: skip
    results = {
        "machine": {"cpu": "some"}, "settings": {"threads": 2, "is_quick": True}, "measured": "2026-12-01T00:00:00",
        "models": [entry],
    }  # fmt: skip
    (tmp_path / "engines.json").write_text(json.dumps(results))
    drawn = CliRunner().invoke(draw, ["--results", str(tmp_path), "--out", str(tmp_path)])
    assert drawn.exit_code == 0, drawn.output
    picture = (tmp_path / "engines.svg").read_text()
    bars = [
        float(bar.get("width", "nan"))
        for bar in ET.fromstring(picture).iter("{http://www.w3.org/2000/svg}rect")  # noqa: S314 - our own output
    ]
    assert len(bars) == 4 and bars[0] == 2 * bars[1] == 2 * bars[3]
    for told in ("random weights", "BUSY MACHINE", "512 visual tokens", "QUICK", "1.10 x by MACs"):
        assert told in picture
