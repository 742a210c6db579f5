"""Is the ONNX Runtime that is installed built for the GPU that is here? Found out without loading it."""

from __future__ import annotations

import platform
from importlib.util import find_spec
from pathlib import Path

from saccade.proto.distribution import install_hint
from saccade.proto.errors import EngineError
from saccade.runtime.engines.cuda_driver import find_gpu

PROVIDER = "libonnxruntime_providers_cuda.so"
_BUILT_FOR = {
    "x86_64": ((7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (12, 0)),
    "aarch64": ((8, 9), (9, 0), (12, 0), (12, 1)),
}
"""Compute capabilities that the kernels of the wheels are compiled for, by processor (onnxruntime-gpu 1.31.1)."""


def why_not_ort_cuda() -> str | None:
    """Return why ONNX Runtime cannot use a GPU of this machine, and what to do; None = it can."""
    spec = find_spec("onnxruntime")
    places = [] if spec is None else spec.submodule_search_locations or []
    if not any((Path(place) / "capi" / PROVIDER).is_file() for place in places):
        return (
            "the onnxruntime that is installed has no CUDA: `pip uninstall onnxruntime`, then "
            f"{install_hint('ort-cuda')}"
        )
    try:
        gpu = find_gpu()
    except EngineError as error:
        return error.message
    return (
        None
        if runs_on(gpu.compute_capability)
        else (f"onnxruntime-gpu has no kernels for {gpu.name}, {gpu.target}: choose --engine tensorrt")
    )


def runs_on(compute_capability: tuple[int, int], processor: str | None = None) -> bool:
    """Whether the wheel has machine code that a GPU runs: of the same major number, and no newer.

    Args:
        compute_capability: What the GPU can do, e.g. ``(8, 7)``.
        processor: Processor that the wheel is for; None = this machine's. Of one that has no wheel nothing is known.
    """
    major, minor = compute_capability
    built = _BUILT_FOR.get(processor or platform.machine())
    return built is None or any(has == major and newest <= minor for has, newest in built)
