"""Checkpoint to bundle: load, place the policy, capture, lint, compare, write."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import onnx_ir as ir
from torch import Tensor

from saccade.export.bundle.graph_session import memory_of_check
from saccade.export.bundle.manifest_parts import producers
from saccade.export.bundle.profile_plan import ProfilePlan, plan_profiles
from saccade.export.bundle.progress import Progress, Stopwatch
from saccade.export.bundle.tensorrt_rtx import TensorRtRtxReceipt, check_tensorrt_rtx, require_tensorrt_rtx
from saccade.export.bundle.writer import BundleWriter, check_space, check_target, clear_abandoned
from saccade.export.control.frames import Recording, host_inputs, read_recording, synthetic_recording
from saccade.export.control.manifest import build_manifest
from saccade.export.control.parity import ParityReceipt, ParityTolerance, check_parity
from saccade.export.control.profiles import PlannedPolicies, plan_policies, read_searches
from saccade.export.cost.receipt import account_profiles
from saccade.export.families.base import ActingFamily
from saccade.export.families.checkpoint import TOKENIZER_NAME, Checkpoint
from saccade.export.families.registry import load_checkpoint
from saccade.export.loading.weights import weight_bytes
from saccade.export.lowering.capture import to_graph
from saccade.export.lowering.greedy_rolling import roll_greedy_loops
from saccade.export.lowering.lint import LintReceipt, lint
from saccade.export.lowering.shared_weights import SharedWeights
from saccade.export.steps.acting_step import ActingStep
from saccade.export.steps.placement_rules import model_shape
from saccade.export.steps.selecting_module import initial_state
from saccade.policies.registry import build_policy
from saccade.proto.errors import ExportError
from saccade.proto.manifest import Manifest
from saccade.proto.profile_names import FULL_PROFILE
from saccade.proto.statistics import STATISTICS_NAME

SYNTHETIC_FRAMES = 8
"""Compared when no recording is given, on top of the policy's warm-up."""


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """What to export.

    Args:
        checkpoint: Folder of the checkpoint.
        out: The bundle to be.
        policy: Registry name.
        options: Its options.
        keep_ratios: One profile each; 1.0 must be among them.
        tuned: Results of ``saccade tune``; each gives the profile of its keep ratio its options.
        frames: Recorded frames for calibration and the parity check; None draws synthetic ones.
        rolls_greedy_loops: Write greedy selection as a Loop of constant length instead of node by node: for engines
            whose builder pays for nodes.
        checks_tensorrt_rtx: TensorRT-RTX must read every graph and build it; an extra must be installed.
        overwrite: Replace a bundle at ``out``.
        tolerance: What the parity check lets through.
    """

    checkpoint: Path
    out: Path
    policy: str
    options: Mapping[str, object] = field(default_factory=dict)
    keep_ratios: Sequence[float] = (1.0, 0.5, 0.25, 0.125)
    tuned: Sequence[Path] = ()
    frames: Path | None = None
    rolls_greedy_loops: bool = False
    checks_tensorrt_rtx: bool = False
    overwrite: bool = False
    tolerance: ParityTolerance = field(default_factory=ParityTolerance)


@dataclass(frozen=True)
class ExportReport:
    """What was exported.

    Args:
        manifest: Of the bundle.
        lint: For each profile.
        parity: For each profile.
        accounting: For each profile what :func:`account_profiles` says.
        engines: For each profile, if TensorRT-RTX was asked.
        seconds: Wall time of each part.
    """

    manifest: Manifest
    lint: Mapping[str, LintReceipt]
    parity: Mapping[str, ParityReceipt]
    accounting: Mapping[str, Mapping[str, Any]]
    engines: Mapping[str, TensorRtRtxReceipt]
    seconds: Mapping[str, float]


def export_bundle(request: ExportRequest, progress: Progress) -> ExportReport:
    """Export a checkpoint.

    The model is never in memory as a whole: its large weights are read from the checkpoint where they are used, and
    written one after the other.

    Raises:
        SaccadeError: Something does not fit or a check failed; nothing is left behind.
    """
    clear_abandoned(request.out)
    check_target(request.out, overwrite=request.overwrite)
    if request.checks_tensorrt_rtx:
        require_tensorrt_rtx()  # before the work begins
    watch = Stopwatch(progress)
    watch.start("load checkpoint")
    checkpoint = load_checkpoint(request.checkpoint, mapped=True)
    check_space(request.out, weight_bytes(checkpoint.module))
    plans = plan_profiles(request.keep_ratios, checkpoint.model.grid.tokens)
    searches = read_searches(request.tuned, plans, request.policy)
    recording = _recording(request, checkpoint)
    frames = list(host_inputs(recording, checkpoint))
    watch.start("build policy")
    planned = plan_policies(request.policy, request.options, searches, plans, checkpoint, frames)
    with BundleWriter(request.out, overwrite=request.overwrite) as writer:
        for name in ("graphs", "receipts"):
            (writer.folder / name).mkdir()
        steps = {
            plan.name: checkpoint.kind.build(
                checkpoint.model,
                planned.by_profile[plan.name],
                plan.budget,
                tells_fate=planned.tells_fate,
            ).eval()
            for plan in plans
        }
        linted = _capture_all(
            writer.folder, plans, steps, frames[0], watch, rolls_greedy_loops=request.rolls_greedy_loops
        )
        engines = _build_engines(writer.folder, plans, watch) if request.checks_tensorrt_rtx else {}
        compared = {}
        for plan in plans:
            tell = watch.counted(f"{plan.name}: parity", "frames")
            compared[plan.name] = check_parity(
                writer.folder / plan.graph,
                steps[plan.name],
                steps[FULL_PROFILE],
                frames,
                profile=plan.name,
                source=recording.source,
                physical_per_unit=checkpoint.statistics.action.physical_per_unit,
                tolerance=request.tolerance,
                tell=tell,
            )
        watch.start("accounting")
        accounts = account_profiles(checkpoint.kind.account, steps, frames[0])
        watch.start("write bundle")
        shutil.copyfile(checkpoint.tokenizer, writer.folder / TOKENIZER_NAME)
        checkpoint.write_statistics(writer.folder / STATISTICS_NAME)
        held = memory_of_check(checkpoint.module, writer.folder / plans[0].graph)
        _write_receipts(writer.folder, request, linted, compared, held, watch)
        _write_receipt(writer.folder, "accounting", accounts)
        if engines:
            _write_receipt(
                writer.folder, "tensorrt_rtx", {name: asdict(receipt) for name, receipt in engines.items()}
            )
        _write_grounds(writer.folder, planned)
        manifest = writer.commit(lambda files: build_manifest(checkpoint, steps, plans, files))
    watch.stop()
    return ExportReport(manifest, linted, compared, accounts, engines, watch.seconds)


def _recording(request: ExportRequest, checkpoint: Checkpoint[ActingFamily]) -> Recording:
    if request.frames is not None:
        return read_recording(request.frames, checkpoint)
    policy = build_policy(request.policy, request.options, model_shape(checkpoint.model))
    if policy.needs_calibration:
        raise ExportError(
            f"policy {policy.name!r} with {policy.config.as_dict()}: expected recorded frames to calibrate it on, "
            "found none; give --frames, or options that need no calibration."
        )
    return synthetic_recording(checkpoint, policy.warmup_steps + SYNTHETIC_FRAMES)


def _capture_all(
    folder: Path,
    plans: Sequence[ProfilePlan],
    steps: Mapping[str, ActingStep],
    frame: tuple[Tensor, ...],
    watch: Stopwatch,
    *,
    rolls_greedy_loops: bool,
) -> dict[str, LintReceipt]:
    """Write every profile's graph; return what the lint saw."""
    linted = {}
    with SharedWeights(folder / "graphs") as weights:
        for plan in plans:
            step = steps[plan.name]
            watch.start(f"{plan.name}: capture")
            model = to_graph(
                step,
                (*frame, *initial_state(step)),
                step.ports,
                f"policy {step.policy.name!r} at keep {step.keep}",
            )
            if rolls_greedy_loops:
                roll_greedy_loops(model)
            watch.start(f"{plan.name}: lint")
            linted[plan.name] = lint(model, plan.graph)
            weights.adopt(model, watch.counted(f"{plan.name}: weights", "GB", 1e9))
            ir.save(model, folder / plan.graph)
    return linted


def _build_engines(
    folder: Path, plans: Sequence[ProfilePlan], watch: Stopwatch
) -> dict[str, TensorRtRtxReceipt]:
    """Have TensorRT-RTX build every profile's graph."""
    built = {}
    for plan in plans:
        watch.start(f"{plan.name}: TensorRT-RTX")
        built[plan.name] = check_tensorrt_rtx(folder / plan.graph)
    return built


def _write_receipts(
    folder: Path,
    request: ExportRequest,
    linted: Mapping[str, LintReceipt],
    compared: Mapping[str, ParityReceipt],
    held: Mapping[str, Any],
    watch: Stopwatch,
) -> None:
    sizes = {path.name: path.stat().st_size for path in sorted((folder / "graphs").iterdir())}
    receipts: dict[str, Any] = {
        "parity": {
            "tolerance": asdict(request.tolerance),
            "weights": dict(held),
            "profiles": {name: asdict(receipt) for name, receipt in compared.items()},
        },
        "lint": {name: asdict(receipt) for name, receipt in linted.items()},
        "export": {"seconds": watch.seconds, "bytes": sizes, "versions": producers()},
    }
    for name, receipt in receipts.items():
        _write_receipt(folder, name, receipt)


def _write_grounds(folder: Path, planned: PlannedPolicies) -> None:
    """Write down what the policy's options rest on: calibration and searches."""
    if planned.measured is not None:
        _write_receipt(folder, "calibration", asdict(planned.measured))
    if planned.tuned:
        _write_receipt(folder, "tune", {name: asdict(tuned) for name, tuned in planned.tuned.items()})


def _write_receipt(folder: Path, name: str, receipt: Mapping[str, Any]) -> None:
    text = json.dumps(receipt, indent=2, allow_nan=False) + "\n"
    (folder / "receipts" / f"{name}.json").write_text(text, encoding="utf-8")
