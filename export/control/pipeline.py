"""A checkpoint of a family that acts to a bundle that controls a robot."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from torch import Tensor, nn

from saccade.export.bundle.profile_plan import ProfilePlan, plan_profiles
from saccade.export.bundle.progress import Progress, Stopwatch
from saccade.export.bundle.recipe import BundleReport, BundleRequest, GraphPlan, Recipe, write_bundle
from saccade.export.control.frames import Recording, host_inputs, read_recording, synthetic_recording
from saccade.export.control.manifest import build_manifest
from saccade.export.control.parity import ParityReceipt, ParityTolerance, check_parity
from saccade.export.control.profiles import PlannedPolicies, plan_policies, read_searches
from saccade.export.cost.account import account_step
from saccade.export.cost.parts import parameter_counts
from saccade.export.families.base import ActingFamily
from saccade.export.families.checkpoint import Checkpoint
from saccade.export.families.registry import load_checkpoint
from saccade.export.loading.checkpoint_folder import TOKENIZER_NAME
from saccade.export.steps.policy_checks import model_shape
from saccade.export.steps.selecting_module import initial_state
from saccade.export.steps.step_of import acting_step
from saccade.policies.registry import build_policy
from saccade.proto.accounting import Account
from saccade.proto.errors import ExportError
from saccade.proto.manifest import FileSpec, Manifest
from saccade.proto.profile_names import FULL_PROFILE
from saccade.proto.statistics import STATISTICS_NAME

SYNTHETIC_FRAMES = 8
"""Frames that are compared when no recording is given, on top of the policy's warm-up."""
ExportReport: TypeAlias = BundleReport[ParityReceipt]


@dataclass(frozen=True, kw_only=True)
class ExportRequest(BundleRequest):
    """A bundle that controls a robot.

    Args:
        policy: Registry name of the token-selection policy.
        options: Options of the policy.
        keep_ratios: Shares of visual tokens to keep, a profile for each; 1.0 must be among them.
        tuned: Files of ``saccade tune``'s results; each gives the profile of its keep ratio its options.
        frames: Recorded frames for calibration and the parity check; None draws synthetic ones.
        head_step: Training step of the heads, where the checkpoint has several; None = the only one.
        tolerance: What the parity check lets through.
    """

    policy: str
    options: Mapping[str, object] = field(default_factory=dict)
    keep_ratios: Sequence[float] = (1.0, 0.5, 0.25, 0.125)
    tuned: Sequence[Path] = ()
    frames: Path | None = None
    head_step: str | None = None
    tolerance: ParityTolerance = field(default_factory=ParityTolerance)


def export_bundle(request: ExportRequest, progress: Progress) -> ExportReport:
    """Export a checkpoint of a family that acts.

    Args:
        request: What is asked for.
        progress: Told of each part of the work.

    Raises:
        SaccadeError: Something does not fit or a check failed; nothing is left behind.
    """
    return write_bundle(request, lambda watch: ControlRecipe(request, watch), progress)


class ControlRecipe(Recipe[ParityReceipt]):
    """One control step with a policy in it, at every budget.

    Args:
        request: What is asked for.
        watch: Told of each part of the work.
    """

    def __init__(self, request: ExportRequest, watch: Stopwatch) -> None:
        self.checkpoint = load_checkpoint(
            request.checkpoint, mapped=True, tokenizer=request.tokenizer, head_step=request.head_step
        )
        self._name = request.name
        self.plans = plan_profiles(request.keep_ratios, self.checkpoint.model.grid.tokens)
        searches = read_searches(request.tuned, self.plans, request.policy)
        self._recording = _recording(request, self.checkpoint)
        self._frames = list(host_inputs(self._recording, self.checkpoint))
        watch.start("build policy")
        self._planned = plan_policies(
            request.policy, request.options, searches, self.plans, self.checkpoint, self._frames
        )
        self._tolerance = request.tolerance
        self.steps = {
            plan.name: acting_step(
                self.checkpoint.model,
                self._planned.by_profile[plan.name],
                plan.budget,
                tells_fate=self._planned.tells_fate,
            )
            for plan in self.plans
        }

    @property
    def model(self) -> nn.Module:
        """The model of the checkpoint."""
        return self.checkpoint.module

    @property
    def tolerance(self) -> ParityTolerance:
        """What the parity check lets through."""
        return self._tolerance

    def graphs(self) -> Sequence[GraphPlan]:
        """Return the graph of every profile."""
        return [self._graph(plan, self._frames[0]) for plan in self.plans]

    def _graph(self, plan: ProfilePlan, frame: tuple[Tensor, ...]) -> GraphPlan:
        step = self.steps[plan.name]
        what = f"policy {step.policy.name!r} at keep {step.keep}"
        return GraphPlan(
            plan.name, plan.graph, plan.name, step, (*frame, *initial_state(step)), step.ports, what
        )

    def compare(self, bundle: Path, watch: Stopwatch) -> Mapping[str, ParityReceipt]:
        """Compare every profile on the recorded or drawn frames."""
        return {
            plan.name: check_parity(
                bundle / plan.graph,
                self.steps[plan.name],
                self.steps[FULL_PROFILE],
                self._frames,
                profile=plan.name,
                source=self._recording.source,
                physical_per_unit=self.checkpoint.statistics.action.physical_per_unit,
                tolerance=self._tolerance,
                tell=watch.counted(f"{plan.name}: parity", "frames"),
            )
            for plan in self.plans
        }

    def account(self) -> Mapping[str, Account]:
        """Return what a control step costs in each profile."""
        return {name: account_step(step, self._frames[0]) for name, step in self.steps.items()}

    def parameters(self) -> Mapping[str, int]:
        """Return part of the model to number of parameters."""
        return parameter_counts(self.checkpoint.model)

    def write_files(self, bundle: Path) -> None:
        """Write tokenizer and statistics."""
        shutil.copyfile(self.checkpoint.tokenizer, bundle / TOKENIZER_NAME)
        self.checkpoint.write_statistics(bundle / STATISTICS_NAME)

    def manifest(self, files: Mapping[str, FileSpec]) -> Manifest:
        """Return the manifest."""
        return build_manifest(self.checkpoint, self.steps, self.plans, files, self._name)

    def grounds(self) -> Mapping[str, Mapping[str, Any]]:
        """Return calibration and searches, where there were any."""
        return _grounds(self._planned)

    def never_varied(self) -> Mapping[str, tuple[str, ...]]:
        """Return the dimensions of the checkpoint's statistics that never varied."""
        robot = self.checkpoint.embodiment
        return self.checkpoint.statistics.never_varied(proprio=robot.proprio.names, action=robot.action.names)


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


def _grounds(planned: PlannedPolicies) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    if planned.measured is not None:
        found["calibration"] = {**asdict(planned.measured), "decided": planned.decided}
    if planned.tuned:
        found["tune"] = planned.tuned
    return found
