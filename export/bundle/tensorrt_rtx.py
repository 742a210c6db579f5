"""Would TensorRT-RTX take this graph? Its parser reads it and its builder compiles it, ahead of time, without a GPU.

TensorRT-RTX is TensorRT for desktop cards, and the only member of the family whose builder comes as a wheel and
compiles for a card that is not there. Its parser and optimiser are close to, but not, those of the TensorRT that runs
on Jetson and in data centres: passing here is evidence for those, no proof. The plans are measured and thrown away,
since a robot builds its own. Nothing is run: what a graph computes is the parity check's matter.

The network is strongly typed, as it is in every TensorRT from 11 on: each tensor has the type that the graph says.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from saccade.proto.distribution import install_hint
from saccade.proto.errors import ReceiptError

TARGETS = ("SM86", "SM89", "SM120")
"""Compute capabilities of the GeForce and RTX generations from 2020 on: Ampere, Ada, Blackwell."""


@dataclass(frozen=True)
class PlanReceipt:
    """One engine that was built.

    Args:
        bytes: Size of the plan, weights included, bytes.
        seconds: Wall time of the build, seconds.
    """

    bytes: int
    seconds: float


@dataclass(frozen=True)
class TensorRtRtxReceipt:
    """What TensorRT-RTX made of one graph.

    Args:
        version: Version of TensorRT-RTX.
        layers: Layers of its network, before it optimises.
        parse_seconds: Wall time of reading the graph, seconds.
        plans: Engine that was built for each compute capability.
    """

    version: str
    layers: int
    parse_seconds: float
    plans: Mapping[str, PlanReceipt]


def require_tensorrt_rtx() -> str:
    """Return the version of TensorRT-RTX.

    Raises:
        ReceiptError: TensorRT-RTX is not installed, so the check could not run.
    """
    return str(_library().__version__)


def check_tensorrt_rtx(graph: Path, targets: Sequence[str] = TARGETS) -> TensorRtRtxReceipt:
    """Parse a graph and build it for each target.

    Args:
        graph: Path of the ONNX file, its weights beside it.
        targets: Compute capabilities such as ``SM89``.

    Raises:
        ReceiptError: TensorRT-RTX is not installed or does not know a target; its parser refuses nodes (all that it
            names are in the message); or its builder refuses the network.
    """
    library = _library()
    unknown = [target for target in targets if target not in library.ComputeCapability.__members__]
    if unknown:
        known = ", ".join(library.ComputeCapability.__members__)
        raise ReceiptError(
            f"TensorRT-RTX {library.__version__} cannot build for {unknown}; it knows {known}."
        )
    logger = library.Logger(library.Logger.INTERNAL_ERROR)
    builder = library.Builder(logger)
    network = builder.create_network(1 << int(library.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    began_ns = time.monotonic_ns()
    parser = library.OnnxParser(network, logger)
    if not parser.parse_from_file(str(graph)):
        refusals = "\n  ".join(_refusals(parser))
        raise ReceiptError(
            f"{graph.name}: expected a graph that TensorRT-RTX {library.__version__} reads, its parser refused:\n"
            f"  {refusals}"
        )
    parse_seconds = _seconds_since(began_ns)
    plans = {target: _build(library, builder, network, target, graph.name) for target in targets}
    return TensorRtRtxReceipt(str(library.__version__), int(network.num_layers), parse_seconds, plans)


def _library() -> ModuleType:
    """Import the bindings; the libraries that they load are another package of the same extra."""
    try:
        import tensorrt_rtx_bindings  # noqa: PLC0415 - an extra, and 240 MB of libraries
    except ImportError as error:
        raise ReceiptError(
            f"expected TensorRT-RTX for this check, found none ({error}); install it on Linux, x86_64 or aarch64: "
            f"{install_hint('tensorrt-rtx')}"
        ) from error
    return tensorrt_rtx_bindings


def _refusals(parser: Any) -> Iterator[str]:
    """Say of each node that the parser refused which it is and why."""
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        reason = error.desc() if error.desc() not in {"", "false"} else "it has no such operator"
        if error.node_operator():
            yield f"node {error.node()} {error.node_name()!r}, operator {error.node_operator()}: {reason}"
        else:
            yield f"the whole file: {reason}"


def _build(library: ModuleType, builder: Any, network: Any, target: str, name: str) -> PlanReceipt:
    """Compile the network for one compute capability."""
    recorder = _error_recorder(library)
    builder.error_recorder = recorder
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(library.ComputeCapability.__members__[target], 0)
    began_ns = time.monotonic_ns()
    plan = builder.build_serialized_network(network, config)
    seconds = _seconds_since(began_ns)
    if plan is None:
        refusals = "\n  ".join(recorder.descriptions) or "it gave no reason"
        raise ReceiptError(
            f"{name}: expected a graph that TensorRT-RTX {library.__version__} builds for {target}, its builder "
            f"refused:\n  {refusals}"
        )
    return PlanReceipt(int(plan.nbytes), seconds)


def _error_recorder(library: ModuleType) -> Any:
    """Return what the builder tells its errors; its logger can only print them."""
    base: Any = library.IErrorRecorder  # it comes with the extra

    class ErrorRecorder(base):
        """Keeps the description of each error; the method names are TensorRT's."""

        def __init__(self) -> None:
            super().__init__()
            self.descriptions: list[str] = []
            self._codes: list[Any] = []

        def report_error(self, code: Any, description: str) -> bool:
            self._codes.append(code)
            self.descriptions.append(description)
            return False

        def get_error_code(self, index: int) -> Any:
            return self._codes[index]

        def get_error_desc(self, index: int) -> str:
            return self.descriptions[index]

        def num_errors(self) -> int:
            return len(self.descriptions)

        def has_overflowed(self) -> bool:
            return False

        def clear(self) -> None:
            self._codes.clear()
            self.descriptions.clear()

    return ErrorRecorder()


def _seconds_since(began_ns: int) -> float:
    return round((time.monotonic_ns() - began_ns) / 1e9, 3)
