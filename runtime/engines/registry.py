"""Every engine by name; loaded when asked for, so that a robot needs only its own library."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import cast

from saccade.proto.distribution import install_hint
from saccade.proto.errors import EngineError, InputError
from saccade.runtime.engines.base import Backend

DEFAULT_ENGINE = "ort-cpu"


@dataclass(frozen=True)
class _Kind:
    """Where an engine's backend is, which library it needs, and the extra that installs it."""

    module: str
    backend: str
    library: str
    extra: str


_KINDS = {
    DEFAULT_ENGINE: _Kind("saccade.runtime.engines.ort", "OrtBackend", "onnxruntime", "serve"),
    "openvino": _Kind("saccade.runtime.engines.openvino", "OpenVinoBackend", "openvino", "openvino"),
}
ENGINES = tuple(_KINDS)
"""Names of the engines, as in ``--engine``."""


def why_not(name: str) -> str | None:
    """Return why an engine cannot be used on this machine, and what to do; None = its library is there.

    Args:
        name: One of :data:`ENGINES`.

    Raises:
        InputError: No engine has that name.
    """
    kind = _kind(name)
    if find_spec(kind.library) is None:
        return f"the package {kind.library} is not installed: {install_hint(kind.extra)}"
    return None


def open_backend(name: str = DEFAULT_ENGINE, *, threads: int = 0, prepack: bool = True) -> Backend:
    """Return a backend; no other is tried in its place.

    Args:
        name: One of :data:`ENGINES`.
        threads: Threads of one graph; 0 = one for each core that this process may use.
        prepack: Whether each graph keeps a re-ordered copy of its weights: memory for speed.

    Raises:
        InputError: No engine has that name, or more threads than are of any use.
        EngineError: Its library is missing or does not load, or it has no way to share weights.
    """
    kind = _kind(name)
    if reason := why_not(name):
        raise EngineError(f"expected to run on the engine {name}, found that {reason}.")
    try:
        module = import_module(kind.module)
    except (ImportError, OSError) as error:
        raise EngineError(
            f"expected {kind.library} to load, found: {error}. Install it again: {install_hint(kind.extra)}."
        ) from error
    return cast("Backend", getattr(module, kind.backend)(threads=threads, prepack=prepack))


def _kind(name: str) -> _Kind:
    if name not in _KINDS:
        raise InputError(f"expected an engine of {', '.join(_KINDS)}, found {name!r}.")
    return _KINDS[name]
