"""Every engine by name; loaded when asked for, so that a robot needs only its own library."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, cast

from saccade.proto.distribution import install_hint
from saccade.proto.errors import EngineError, InputError
from saccade.runtime.engines.base import Backend
from saccade.runtime.engines.cuda_driver import why_no_gpu
from saccade.runtime.engines.cuda_wheel import why_not_ort_cuda

if TYPE_CHECKING:
    from saccade.runtime.engines.tensorrt import TensorRtBackend

DEFAULT_ENGINE = "ort-cpu"
_CUDA = "cuda.bindings.runtime"
_PACKAGES = {_CUDA: "cuda-bindings"}
"""Packages of other names than their modules."""


@dataclass(frozen=True)
class _Kind:
    """Where an engine's backend is, which library it needs, and the extra that installs it.

    Args:
        module: Module of the backend.
        backend: Name of its class.
        libraries: Modules that must be installed.
        extra: The extra that installs them.
        remedy: What to install besides.
        why_no_gpu: Says why the GPU cannot be used; None for an engine that needs none.
        has_plans: It takes a folder of plans.
    """

    module: str
    backend: str
    libraries: tuple[str, ...]
    extra: str
    remedy: str = ""
    why_no_gpu: Callable[[], str | None] | None = None
    has_plans: bool = False


_KINDS = {
    DEFAULT_ENGINE: _Kind("saccade.runtime.engines.ort", "OrtBackend", ("onnxruntime",), "serve"),
    "openvino": _Kind("saccade.runtime.engines.openvino", "OpenVinoBackend", ("openvino",), "openvino"),
    "ort-cuda": _Kind(
        "saccade.runtime.engines.ort_cuda",
        "OrtCudaBackend",
        ("onnxruntime",),
        "ort-cuda",
        why_no_gpu=why_not_ort_cuda,
    ),
    "tensorrt": _Kind(
        "saccade.runtime.engines.tensorrt",
        "TensorRtBackend",
        ("tensorrt", _CUDA),
        "tensorrt",
        remedy="; TensorRT itself comes with JetPack, or from NVIDIA's own package index",
        why_no_gpu=why_no_gpu,
        has_plans=True,
    ),
    "tensorrt-rtx": _Kind(
        "saccade.runtime.engines.tensorrt",
        "TensorRtRtxBackend",
        ("tensorrt_rtx_bindings", _CUDA),
        "tensorrt-rtx",
        why_no_gpu=why_no_gpu,
        has_plans=True,
    ),
}
ENGINES = tuple(_KINDS)
"""Names of the engines, as in ``--engine``."""
PLAN_ENGINES = tuple(name for name, kind in _KINDS.items() if kind.has_plans)
"""Names of those whose plans `saccade build` makes."""


def why_not(name: str) -> str | None:
    """Return why an engine cannot be used on this machine, and what to do; None = its library and its GPU are there.

    Args:
        name: One of :data:`ENGINES`.

    Raises:
        InputError: No engine has that name.
    """
    kind = _kind(name)
    for library in kind.libraries:
        if not _is_installed(library):
            package = _PACKAGES.get(library, library)
            return f"the package {package} is not installed: {install_hint(kind.extra)}{kind.remedy}"
    return None if kind.why_no_gpu is None else kind.why_no_gpu()


def runs_on_gpu(name: str) -> bool:
    """Whether an engine computes on a GPU.

    Args:
        name: One of :data:`ENGINES`.

    Raises:
        InputError: No engine has that name.
    """
    return _kind(name).why_no_gpu is not None


def open_backend(
    name: str = DEFAULT_ENGINE,
    *,
    threads: int = 0,
    prepack: bool = True,
    plans: Path | None = None,
    builds_plans: bool = False,
) -> Backend:
    """Return a backend; no other is tried in its place.

    Args:
        name: One of :data:`ENGINES`.
        threads: Threads of one graph; 0 = one for each core that this process may use.
        prepack: Whether each graph keeps a re-ordered copy of its weights: memory for speed.
        plans: Folder of the plans, for an engine that has some; None = in the user's cache.
        builds_plans: For such an engine: build a plan that is missing, instead of refusing.

    Raises:
        InputError: No engine has that name, more threads than are of any use, or plans for one that has none.
        EngineError: Its library is missing or does not load, or it has no way to share weights.
    """
    kind = _kind(name)
    if plans is not None and not kind.has_plans:
        raise InputError(
            f"expected --plans with an engine of {', '.join(PLAN_ENGINES)}, found {name}: leave it out."
        )
    if reason := why_not(name):
        raise EngineError(f"expected to run on the engine {name}, found that {reason}.")
    try:
        module = import_module(kind.module)
    except (ImportError, OSError) as error:
        raise EngineError(
            f"expected {kind.libraries[0]} to load, found: {error}. Install it again: {install_hint(kind.extra)}."
        ) from error
    more = {"plans": plans, "builds_plans": builds_plans} if kind.has_plans else {}
    return cast("Backend", getattr(module, kind.backend)(threads=threads, prepack=prepack, **more))


def plan_backend(name: str) -> type[TensorRtBackend]:
    """Return the class of an engine that has plans, which builds them too; it needs no GPU to be named.

    Args:
        name: One of :data:`PLAN_ENGINES`.

    Raises:
        EngineError: Its library is missing.
    """
    kind = _kind(name)
    library = kind.libraries[0]
    if not _is_installed(library):
        raise EngineError(
            f"expected {library} to build plans, found none: {install_hint(kind.extra)}{kind.remedy}."
        )
    return cast("type[TensorRtBackend]", getattr(import_module(kind.module), kind.backend))


def _is_installed(library: str) -> bool:
    """Whether a module is there; asking for one inside a package that is missing is an error of its own."""
    try:
        return find_spec(library) is not None
    except (ModuleNotFoundError, ValueError):
        return False


def _kind(name: str) -> _Kind:
    if name not in _KINDS:
        raise InputError(f"expected an engine of {', '.join(_KINDS)}, found {name!r}.")
    return _KINDS[name]
