"""Where a figure comes from: machine, versions, command. Stands in every results file."""

from __future__ import annotations

import platform
import sys
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from saccade.proto.distribution import VERSION
from saccade.runtime.cores import usable_cores

_PACKAGES = (
    "mujoco",
    "numpy",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "tensorrt",
    "tensorrt-rtx-cu13-libs",
    "cuda-bindings",
    "grpcio",
    "pyzmq",
    "torch",
)
_CPU_INFO = Path("/proc/cpuinfo")


def provenance() -> dict[str, Any]:
    """Return what a reader needs in order to repeat or to distrust a measurement, as plain JSON values."""
    return {
        "measured": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": [_without_folder(argument) for argument in sys.argv],
        "machine": machine(),
        "versions": versions(),
    }


def machine() -> dict[str, Any]:
    """Return processor, cores and system."""
    return {
        "cpu": _cpu_model(),
        "cores": usable_cores(),
        "architecture": platform.machine(),
        "system": platform.system(),
    }


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that matter and are installed."""
    installed = {package: _version(package) for package in _PACKAGES}
    return {"python": platform.python_version(), "saccade": VERSION} | {
        name: found for name, found in installed.items() if found
    }


def _without_folder(argument: str) -> str:
    """Cut the folders of an absolute path, also behind ``NAME=``: they say whose machine it was, and nothing else."""
    name, equals, path = argument.rpartition("=")
    return f"{name}{equals}{Path(path).name if Path(path).is_absolute() else path}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _cpu_model() -> str:
    try:
        lines = _CPU_INFO.read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() in {"model name", "Model"}:
            return value.strip()
    return platform.processor() or "unknown"
