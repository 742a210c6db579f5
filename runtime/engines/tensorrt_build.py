"""From a graph in memory to a TensorRT plan: parsed as strongly typed, built, and every refusal told in words.

One code path for TensorRT 10.3 to 11 and TensorRT-RTX, whose Python modules differ in their name and in what the
newest of them add: that is looked up, and never a version compared. There are no precision flags: each tensor has the
type that the graph says.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.proto.errors import EngineError
from saccade.proto.file_errors import naming
from saccade.runtime.engines.external_weights import external_weights

FLAGS = ("strongly_typed",)
"""Options that every plan is built with."""


@dataclass(frozen=True)
class BuiltPlan:
    """What a build made.

    Args:
        plan: The plan, bytes.
        timings: What it measured, for the next build on this machine; None if this library measures nothing.
    """

    plan: memoryview
    timings: memoryview | None


def build_plan(
    library: ModuleType,
    graph: str,
    files: Mapping[str, NDArray[np.uint8]],
    *,
    target: str,
    timings: bytes,
    scratch: Path,
) -> BuiltPlan:
    """Parse a graph and compile it.

    Args:
        library: The module ``tensorrt`` or ``tensorrt_rtx_bindings``.
        graph: Name of the ONNX file.
        files: Content of all files by name, the weights among them.
        target: Compute capability such as ``SM89``; a library that builds only for the GPU of this machine ignores it.
        timings: What an earlier build measured; may be empty.
        scratch: Folder for a copy of the weights, where the parser takes them only from files.

    Raises:
        EngineError: The parser or the builder refuses the graph; all that they say is in the message.
        FileError: The copy cannot be written.
    """
    errors = told_errors(library)
    errors.told()
    builder = library.Builder(errors)
    config = builder.create_builder_config()
    _aim(library, config, target, graph)
    measured = _timing_cache(library, config, timings)
    network = builder.create_network(_network_flags(library))
    parser = library.OnnxParser(network, told_errors(library))
    weights = _parse(library, parser, graph, files, scratch)
    _check_static(network, graph)
    plan = builder.build_serialized_network(network, config)
    del weights  # the network pointed to them until here
    if plan is None:
        raise EngineError(
            f"{graph}: expected a graph that {told(library)} builds for {target}, its builder refused: "
            f"{errors.told()}: export it again with --check-tensorrt-rtx, or choose another --engine."
        )
    return BuiltPlan(memoryview(plan), None if measured is None else memoryview(measured.serialize()))


def told(library: ModuleType) -> str:
    """Return name and version of a library, for messages."""
    return f"{library.__name__.removesuffix('_bindings')} {library.__version__}"


@cache
def told_errors(library: ModuleType) -> Any:
    """Return the logger that TensorRT tells its errors, to be read by ``told()``.

    One for the process, since networks and contexts call it until the last of them is gone. An error recorder would say
    the same, but a network that inherits one from its builder crashes as it goes (TensorRT-RTX 1.7.1).

    Args:
        library: The module ``tensorrt`` or ``tensorrt_rtx_bindings``.
    """
    base: Any = library.ILogger

    class ToldErrors(base):  # type: ignore[misc]  # it comes with the extra
        """Keeps the text of each error; the name of its method is TensorRT's."""

        def __init__(self) -> None:
            super().__init__()
            self._errors: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            if severity in {library.ILogger.Severity.ERROR, library.ILogger.Severity.INTERNAL_ERROR}:
                self._errors.append(msg)

        def told(self) -> str:
            """Return all that was told since the last time, and forget it."""
            found, self._errors = "; ".join(self._errors), []
            return found or "it gave no reason"

    return ToldErrors()


def _network_flags(library: ModuleType) -> int:
    """Return the flags of a strongly typed network; TensorRT 11 makes no other."""
    return 1 << int(library.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def _aim(library: ModuleType, config: Any, target: str, graph: str) -> None:
    """Choose the compute capability, where the library builds for others than the GPU that is there."""
    known = getattr(library, "ComputeCapability", None)
    if known is None or not hasattr(config, "set_compute_capability"):
        return
    if target not in known.__members__:
        names = ", ".join(name for name in known.__members__ if name.startswith("SM"))
        raise EngineError(
            f"{graph}: expected a compute capability that {told(library)} builds for ({names}), found {target}: choose "
            "another --engine."
        )
    config.num_compute_capabilities = 1
    config.set_compute_capability(known.__members__[target], 0)


def _timing_cache(library: ModuleType, config: Any, timings: bytes) -> Any | None:
    """Give the builder what earlier builds measured; one that compiles for a GPU that is not there measures nothing."""
    if hasattr(library, "ComputeCapability"):
        return None
    cache = config.create_timing_cache(timings)
    if cache is None or not config.set_timing_cache(cache, False):  # of another version: begin anew
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    return cache


def _parse(
    library: ModuleType, parser: Any, graph: str, files: Mapping[str, NDArray[np.uint8]], scratch: Path
) -> list[NDArray[np.generic]]:
    """Parse a graph and return the memory that the network points to.

    A parser that takes weights from memory is given them where they lie. One that does not (TensorRT 10.3) reads them
    from a copy of the verified files.
    """
    content = files[graph].tobytes()
    weights = [weight for weight in external_weights(graph, files) if weight.values.size]
    if hasattr(parser, "load_initializer"):
        is_parsed = parser.load_model_proto(content)
        for weight in weights:
            values = weight.values
            is_parsed = is_parsed and parser.load_initializer(weight.name, values.ctypes.data, values.nbytes)
        is_parsed = is_parsed and parser.parse_model_proto()
    elif not weights:
        is_parsed = parser.parse(content)
    else:
        is_parsed = _parse_from_files(parser, graph, files, scratch)
    if not is_parsed:
        raise EngineError(
            f"{graph}: expected a graph that {told(library)} reads, its parser refused:\n  "
            + "\n  ".join(_refusals(parser))
        )
    return [weight.values for weight in weights]


def _parse_from_files(parser: Any, graph: str, files: Mapping[str, NDArray[np.uint8]], scratch: Path) -> bool:
    with naming(scratch), tempfile.TemporaryDirectory(prefix="weights-", dir=scratch) as folder:
        root = Path(folder)
        graphs = Path(graph).parent
        for name, content in files.items():
            if name == graph or (name.startswith(f"{graphs}/") and not name.endswith(".onnx")):
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                content.tofile(root / name)
        return bool(parser.parse_from_file(str(root / graph)))


def _refusals(parser: Any) -> Iterator[str]:
    """Say of each node that the parser refused which it is and why."""
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        reason = error.desc() if error.desc() not in {"", "false"} else "it has no such operator"
        node = f"node {error.node()} {error.node_name()!r}, operator {error.node_operator()}"
        yield f"{node if error.node_operator() else 'the whole file'}: {reason}"


def _check_static(network: Any, graph: str) -> None:
    for index in range(network.num_inputs):
        port = network.get_input(index)
        if any(length < 0 for length in port.shape):
            raise EngineError(
                f"{graph}: expected port {port.name!r} to have a static shape, found {tuple(port.shape)}: export with "
                "static shapes."
            )
