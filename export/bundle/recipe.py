"""The one way in which a checkpoint becomes a bundle: load, capture, lint, lower, compare, account, write.

What differs between the kinds of bundle is a :class:`Recipe`: its graphs, how they are judged, what the manifest says.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import onnx_ir as ir
from torch import Tensor, nn

from saccade.export.bundle.graph_session import memory_of_check
from saccade.export.bundle.manifest_parts import producers
from saccade.export.bundle.progress import Progress, Stopwatch
from saccade.export.bundle.receipts import ENGINES as ENGINES_RECEIPT
from saccade.export.bundle.receipts import EXPORT, FOLDER, LINT, PARITY, parity_receipt, write_receipt
from saccade.export.bundle.tensorrt_rtx import TensorRtRtxReceipt, check_tensorrt_rtx, require_tensorrt_rtx
from saccade.export.bundle.writer import BundleWriter, check_space, check_target, clear_abandoned
from saccade.export.loading.weights import weight_bytes
from saccade.export.lowering.capture import GraphPorts, to_graph
from saccade.export.lowering.greedy_rolling import roll_greedy_loops
from saccade.export.lowering.lint import LintReceipt, lint
from saccade.export.lowering.shared_weights import SharedWeights
from saccade.proto.accounting import ACCOUNTING, Account, accounts_to_json
from saccade.proto.manifest import FileSpec, Manifest

GRAPHS = "graphs"
ParityT = TypeVar("ParityT")


@dataclass(frozen=True, kw_only=True)
class BundleRequest:
    """What every kind of bundle is asked for with.

    Args:
        checkpoint: Folder of the checkpoint.
        out: Folder that the bundle is written to.
        rolls_greedy_loops: Write greedy selection as a Loop of constant length instead of node by node: for engines
            whose builder pays for nodes.
        checks_tensorrt_rtx: TensorRT-RTX must read every graph and build it; an extra must be installed.
        overwrite: Replace a bundle at ``out``.
        tokenizer: A ``tokenizer.json``, or a folder with one; None = the checkpoint's own.
        name: Name of the bundle, in its manifest; None = the model's.
    """

    checkpoint: Path
    out: Path
    rolls_greedy_loops: bool = False
    checks_tensorrt_rtx: bool = False
    overwrite: bool = False
    tokenizer: Path | None = None
    name: str | None = None


@dataclass(frozen=True)
class GraphPlan:
    """One graph that is to be written.

    Args:
        name: Name of the graph in receipts.
        path: Path of the graph in the bundle.
        profile: Name of the profile that the graph belongs to.
        module: Module that computes what the graph does, in eval mode.
        example: Inputs in the order of the ports; their shapes become the graph's.
        ports: Names of the graph's inputs and outputs.
        what: Name of the module, for messages.
    """

    name: str
    path: str
    profile: str
    module: nn.Module
    example: tuple[Tensor, ...]
    ports: GraphPorts
    what: str


class Recipe(ABC, Generic[ParityT]):
    """One kind of bundle, with everything loaded and planned."""

    @property
    @abstractmethod
    def model(self) -> nn.Module:
        """The model whose weights the graphs share."""

    @property
    @abstractmethod
    def tolerance(self) -> object:
        """What the parity check lets through, a dataclass."""

    @abstractmethod
    def graphs(self) -> Sequence[GraphPlan]:
        """Return every graph, that of the full profile first."""

    @abstractmethod
    def compare(self, bundle: Path, watch: Stopwatch) -> Mapping[str, ParityT]:
        """Run every graph in ONNX Runtime and in PyTorch.

        Args:
            bundle: Folder of the bundle, with the graphs in it.
            watch: Told of each part of the work.

        Returns:
            What was found in each profile, by name.

        Raises:
            ReceiptError: A graph disagrees, or a policy changed nothing.
        """

    @abstractmethod
    def account(self) -> Mapping[str, Account]:
        """Return what each profile costs.

        Raises:
            ReceiptError: The formulas do not describe the model.
        """

    @abstractmethod
    def parameters(self) -> Mapping[str, int]:
        """Return part of the model to number of parameters."""

    @abstractmethod
    def write_files(self, bundle: Path) -> None:
        """Write what a bundle has beside graphs and receipts: tokenizer, statistics."""

    @abstractmethod
    def manifest(self, files: Mapping[str, FileSpec]) -> Manifest:
        """Return the manifest.

        Args:
            files: Size and hash of every file of the bundle, by path.
        """

    def grounds(self) -> Mapping[str, Mapping[str, Any]]:
        """Return what the policy's options rest on, receipt name to content: calibration, searches."""
        return {}

    def never_varied(self) -> Mapping[str, tuple[str, ...]]:
        """Return the dimensions of the data set that never varied, by name, under ``proprio`` and ``action``."""
        return {}


@dataclass(frozen=True)
class BundleReport(Generic[ParityT]):
    """What was written, and what was found on the way.

    Args:
        manifest: Manifest of the bundle.
        lint: What the lint saw in each graph, by name.
        parity: How far ONNX Runtime is from PyTorch in each profile, by name.
        accounting: Content of the accounting receipt.
        engines: What TensorRT-RTX made of each graph, by name; empty if it was not asked.
        seconds: Wall time of each part of the work, seconds.
        never_varied: Dimensions of the data set that never varied, by name, under ``proprio`` and ``action``.
    """

    manifest: Manifest
    lint: Mapping[str, LintReceipt]
    parity: Mapping[str, ParityT]
    accounting: Mapping[str, Mapping[str, Any]]
    engines: Mapping[str, TensorRtRtxReceipt]
    seconds: Mapping[str, float]
    never_varied: Mapping[str, tuple[str, ...]]


def write_bundle(
    request: BundleRequest, open_recipe: Callable[[Stopwatch], Recipe[ParityT]], progress: Progress
) -> BundleReport[ParityT]:
    """Write a bundle whole, or nothing.

    The model is never in memory as a whole: its large weights are read from the checkpoint where they are used, and
    written one after the other.

    Args:
        request: What is asked for.
        open_recipe: Loads and plans; begins its parts on the watch that it is given.
        progress: Told of each part of the work.

    Raises:
        SaccadeError: Something does not fit or a check failed; nothing is left behind.
    """
    clear_abandoned(request.out)
    check_target(request.out, overwrite=request.overwrite)
    if request.checks_tensorrt_rtx:
        require_tensorrt_rtx()  # before the work begins
    watch = Stopwatch(progress)
    watch.start("load checkpoint")
    recipe = open_recipe(watch)
    check_space(request.out, weight_bytes(recipe.model))
    with BundleWriter(request.out, overwrite=request.overwrite) as writer:
        bundle = writer.folder
        for name in (GRAPHS, FOLDER):
            (bundle / name).mkdir()
        graphs = recipe.graphs()
        linted = _capture(bundle, graphs, watch, rolls_greedy_loops=request.rolls_greedy_loops)
        engines = _build_engines(bundle, graphs, watch) if request.checks_tensorrt_rtx else {}
        compared = recipe.compare(bundle, watch)
        watch.start("accounting")
        accounts = accounts_to_json(recipe.account())
        watch.start("write bundle")
        recipe.write_files(bundle)
        held = memory_of_check(recipe.model, bundle / graphs[0].path)
        sizes = {path.name: path.stat().st_size for path in sorted((bundle / GRAPHS).iterdir())}
        receipts: dict[str, Mapping[str, Any]] = {
            PARITY: parity_receipt(recipe.tolerance, held, compared),
            LINT: linted,
            EXPORT: {
                "seconds": watch.seconds,
                "bytes": sizes,
                "parameters": dict(recipe.parameters()),
                "never_varied": recipe.never_varied(),
                "versions": producers(),
            },
            ACCOUNTING: accounts,
            **({ENGINES_RECEIPT: engines} if engines else {}),
            **recipe.grounds(),
        }
        for name, content in receipts.items():
            write_receipt(bundle, name, content)
        manifest = writer.commit(recipe.manifest)
    watch.stop()
    return BundleReport(manifest, linted, compared, accounts, engines, watch.seconds, recipe.never_varied())


def _capture(
    bundle: Path, graphs: Sequence[GraphPlan], watch: Stopwatch, *, rolls_greedy_loops: bool
) -> dict[str, LintReceipt]:
    """Write every graph, weights shared between them; return what the lint saw."""
    linted = {}
    with SharedWeights(bundle / GRAPHS) as weights:
        for plan in graphs:
            watch.start(f"{plan.profile}: capture")
            graph = to_graph(plan.module, plan.example, plan.ports, plan.what)
            if rolls_greedy_loops:
                roll_greedy_loops(graph)
            watch.start(f"{plan.profile}: lint")
            linted[plan.name] = lint(graph, plan.path)
            weights.adopt(graph, watch.counted(f"{plan.profile}: weights", "GB", 1e9))
            ir.save(graph, bundle / plan.path)
    return linted


def _build_engines(
    bundle: Path, graphs: Sequence[GraphPlan], watch: Stopwatch
) -> dict[str, TensorRtRtxReceipt]:
    """Have TensorRT-RTX build every graph."""
    built = {}
    for plan in graphs:
        watch.start(f"{plan.name}: TensorRT-RTX")
        built[plan.name] = check_tensorrt_rtx(bundle / plan.path)
    return built
