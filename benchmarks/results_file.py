"""Results on disk: written whole or not at all, with machine and versions."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from saccade.sim.scoring import quantile_ns

RESULTS = Path(__file__).parent / "results"


def write_results(path: Path, results: dict[str, Any]) -> None:
    """Write JSON atomically, each entry of a top-level list on a line of its own."""
    lines = []
    for key, value in results.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            entries = ",\n  ".join(json.dumps(entry) for entry in value)
            lines.append(f"{json.dumps(key)}: [\n  {entries}\n ]")
        else:
            lines.append(f"{json.dumps(key)}: {json.dumps(value)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text("{\n " + ",\n ".join(lines) + "\n}\n", encoding="utf-8")
    os.replace(partial, path)


def read_results(path: Path) -> dict[str, Any]:
    """Read what :func:`write_results` wrote; an empty dictionary if there is no file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def latency_summary(durations_ns: Sequence[int]) -> dict[str, Any]:
    """Return p50, p99 and all raw durations, in microseconds."""
    return {
        "p50_us": quantile_ns(durations_ns, 0.50) / 1e3,
        "p99_us": quantile_ns(durations_ns, 0.99) / 1e3,
        "mean_us": round(float(np.mean(durations_ns)) / 1e3, 1),
        "raw_us": [round(duration / 1e3, 1) for duration in durations_ns],
    }
