"""Every graph that the tests export is shown to TensorRT-RTX's parser, which takes a tenth of a second and no GPU."""

from __future__ import annotations

import importlib.util
import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from saccade.export.bundle.recipe import GraphPlan
from saccade.export.bundle.tensorrt_rtx import check_tensorrt_rtx

HAS_TENSORRT_RTX = (sys.platform, platform.machine()) == ("linux", "x86_64") or (
    importlib.util.find_spec("tensorrt_rtx_bindings") is not None
)
"""Whether TensorRT-RTX is there, or has to be: on Linux x86_64 it comes with ``make test``."""
PARSED: list[str] = []
"""Names of the graphs that were parsed in this run, in order."""


def and_parse(capture: Callable[..., Any]) -> Callable[..., Any]:
    """Return what captures graphs and then has them parsed, so that a refused one fails the export.

    Args:
        capture: What writes the graphs of a bundle.
    """

    def captured(bundle: Path, graphs: Sequence[GraphPlan], *rest: Any, **options: Any) -> Any:
        linted = capture(bundle, graphs, *rest, **options)
        for plan in graphs:
            assert check_tensorrt_rtx(bundle / plan.path, ()).layers > 0
            PARSED.append(plan.name)
        return linted

    return captured
