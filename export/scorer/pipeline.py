"""A checkpoint of a single-pass family to a bundle that says once per task how much each view matters."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from torch import nn

from saccade.export.bundle.progress import Progress, Stopwatch
from saccade.export.bundle.recipe import BundleReport, BundleRequest, GraphPlan, Recipe, write_bundle
from saccade.export.control.frames import host_inputs, read_recording, synthetic_recording
from saccade.export.cost.account import family_account, with_selection
from saccade.export.cost.cut_plan import CutPlan
from saccade.export.cost.parts import parameter_counts
from saccade.export.cost.torch_count import count_macs
from saccade.export.families.base import SinglePassFamily, StepKind
from saccade.export.families.checkpoint import Checkpoint
from saccade.export.families.registry import load_checkpoint
from saccade.export.loading.checkpoint_folder import TOKENIZER_NAME
from saccade.export.lowering.capture import GraphPorts
from saccade.export.scorer.manifest import GRAPH, INPUTS, build_scorer_manifest
from saccade.export.scorer.parity import ScoreParity, ScoreTolerance, check_scores
from saccade.export.steps.scoring_step import ScoringStep
from saccade.proto.accounting import Account
from saccade.proto.errors import ExportError
from saccade.proto.manifest import FileSpec, Manifest
from saccade.proto.profile_names import FULL_PROFILE
from saccade.proto.roofline import ACTION_HEAD
from saccade.proto.tensor_names import SCORED_VIEWS

SYNTHETIC_FRAMES = 8


@dataclass(frozen=True, kw_only=True)
class ScorerRequest(BundleRequest):
    """A bundle that scores views; every token is looked at, so that it has no policy, no budget and nothing to tune.

    Args:
        frames: Recorded frames for the parity check; None draws synthetic ones.
        head_step: Training step of the heads, where the checkpoint has several; None = the only one.
        tolerance: What the parity check lets through.
    """

    frames: Path | None = None
    head_step: str | None = None
    tolerance: ScoreTolerance = field(default_factory=ScoreTolerance)


def export_scorer(request: ScorerRequest, progress: Progress) -> BundleReport[ScoreParity]:
    """Export the view scorer of a checkpoint.

    Args:
        request: What is asked for.
        progress: Told of each part of the work.

    Raises:
        SaccadeError: Something does not fit or a check failed; nothing is left behind.
    """
    return write_bundle(request, lambda watch: ScorerRecipe(request), progress)


class ScorerRecipe(Recipe[ScoreParity]):
    """One pass over all views that ends in a score for each.

    Args:
        request: What is asked for.
    """

    def __init__(self, request: ScorerRequest) -> None:
        self.checkpoint = _single_pass(request)
        self._name = request.name
        recording = (
            synthetic_recording(self.checkpoint, SYNTHETIC_FRAMES)
            if request.frames is None
            else read_recording(request.frames, self.checkpoint)
        )
        self._source = recording.source
        self._inputs = [
            (images, ids, mask, positions)
            for images, _, ids, mask, positions in host_inputs(recording, self.checkpoint)
        ]
        self._tolerance = request.tolerance
        self.step = ScoringStep(self.checkpoint.model, self.checkpoint.model.proprio_dim).eval()

    @property
    def model(self) -> nn.Module:
        """The model of the checkpoint."""
        return self.checkpoint.module

    @property
    def tolerance(self) -> ScoreTolerance:
        """What the parity check lets through."""
        return self._tolerance

    def graphs(self) -> Sequence[GraphPlan]:
        """Return the one graph."""
        ports = GraphPorts(INPUTS, (SCORED_VIEWS,))
        return [
            GraphPlan(FULL_PROFILE, GRAPH, FULL_PROFILE, self.step, self._inputs[0], ports, "view scorer")
        ]

    def compare(self, bundle: Path, watch: Stopwatch) -> Mapping[str, ScoreParity]:
        """Compare graph and module on the recorded or drawn frames."""
        tell = watch.counted("parity", "frames")
        found = check_scores(bundle / GRAPH, self.step, self._inputs, self._source, self._tolerance, tell)
        return {FULL_PROFILE: found}

    def account(self) -> Mapping[str, Account]:
        """Return what one look at the views costs: every row of the last layer, and no action head."""
        model = self.checkpoint.model
        whole = family_account(model, CutPlan(is_last_layer_whole=True))
        parts = tuple(part for part in whole.parts if part.name != ACTION_HEAD)
        looked = Account(parts, whole.visual_by_layer, whole.visual_tokens, whole.cache_values)
        return {FULL_PROFILE: with_selection(looked, count_macs(self.step, self._inputs[0]), "view scorer")}

    def parameters(self) -> Mapping[str, int]:
        """Return part of the model to number of parameters; the action head is not among them."""
        counts = parameter_counts(self.checkpoint.model)
        return {name: count for name, count in counts.items() if name != ACTION_HEAD}

    def write_files(self, bundle: Path) -> None:
        """Write the tokenizer."""
        shutil.copyfile(self.checkpoint.tokenizer, bundle / TOKENIZER_NAME)

    def manifest(self, files: Mapping[str, FileSpec]) -> Manifest:
        """Return the manifest."""
        return build_scorer_manifest(self.checkpoint, files, self._name)


def _single_pass(request: ScorerRequest) -> Checkpoint[SinglePassFamily]:
    """Read the checkpoint; only a family whose text rows end in one pass over all views can score them."""
    checkpoint = load_checkpoint(
        request.checkpoint, mapped=True, tokenizer=request.tokenizer, head_step=request.head_step
    )
    if checkpoint.model.step_kind is not StepKind.SINGLE_PASS:
        raise ExportError(
            f"expected a single-pass family (openvla_oft) to score views with, found {checkpoint.family!r}."
        )
    return cast("Checkpoint[SinglePassFamily]", checkpoint)
