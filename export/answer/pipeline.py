"""A checkpoint of a family that answers to a bundle that answers: a prompt graph and a token graph for each profile."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from saccade.export.answer.accounting import account_answer
from saccade.export.answer.manifest import build_answering_manifest
from saccade.export.answer.parity import AnsweringParity, AnsweringTolerance, check_answers
from saccade.export.answer.plan import AnsweringPlan, PromptGraph
from saccade.export.bundle.profile_plan import plan_profiles
from saccade.export.bundle.progress import Progress, Stopwatch
from saccade.export.bundle.recipe import BundleReport, BundleRequest, GraphPlan, Recipe, write_bundle
from saccade.export.cost.parts import parameter_counts
from saccade.export.families.deployment import Deployment
from saccade.export.families.prompts import Prompted, read_prompted
from saccade.export.loading.checkpoint_folder import TOKENIZER_NAME, CheckpointFolder
from saccade.export.loading.license import read_license
from saccade.export.steps.generation_step import GenerationStep
from saccade.export.steps.policy_checks import model_shape
from saccade.export.steps.prefill_step import PrefillStep
from saccade.export.steps.selecting_module import initial_state
from saccade.policies.registry import build_policy
from saccade.proto.accounting import Account
from saccade.proto.errors import ExportError
from saccade.proto.manifest import FileSpec, Manifest


@dataclass(frozen=True, kw_only=True)
class AnsweringRequest(BundleRequest):
    """A bundle that answers questions about pictures.

    Args:
        policy: Registry name of the token-selection policy.
        options: Options of that policy.
        keep_ratios: Shares of visual tokens to keep, a profile for each; 1.0 must be among them.
        prompt: Text with ``<image>`` for each picture and ``{instruction}`` once; None = the checkpoint's template, or
            else the family's.
        views: Pictures, or videos, of one question.
        frames: Frames of each video; 0 = still pictures.
        frames_per_second: Frames a second of the videos; for families that tell the time of a frame.
        image_size: Height and width of the pictures, pixels; None = what the tower takes.
        max_text_tokens: Room for the question, tokens.
        max_new_tokens: Room for the answer, tokens.
        kv_policy: Registry name of the policy over cache entries.
        kv_options: Options of the policy over cache entries.
        questions: Number of questions on which ONNX Runtime and PyTorch are compared, in each profile.
        license: SPDX identifier of the weights; None = what the checkpoint's model card says.
        tolerance: What the parity check lets through.
    """

    policy: str = "keep_all"
    options: Mapping[str, object] = field(default_factory=dict)
    keep_ratios: Sequence[float] = (1.0,)
    prompt: str | None = None
    views: int = 1
    frames: int = 0
    frames_per_second: float = 2.0
    image_size: tuple[int, int] | None = None
    max_text_tokens: int = 64
    max_new_tokens: int = 64
    kv_policy: str = "keep_all_kv"
    kv_options: Mapping[str, object] = field(default_factory=dict)
    questions: int = 4
    license: str | None = None
    tolerance: AnsweringTolerance = field(default_factory=AnsweringTolerance)


def export_answering(request: AnsweringRequest, progress: Progress) -> BundleReport[AnsweringParity]:
    """Export a checkpoint of a family that answers.

    Args:
        request: What is asked for.
        progress: Told of each part of the work.

    Raises:
        SaccadeError: Something does not fit or a check failed; nothing is left behind.
    """
    return write_bundle(request, lambda watch: AnsweringRecipe(request, watch), progress)


class AnsweringRecipe(Recipe[AnsweringParity]):
    """A prompt's pass and a further token's, at every budget of visual tokens.

    Args:
        request: What is asked for.
        watch: Told of each part of the work.
    """

    def __init__(self, request: AnsweringRequest, watch: Stopwatch) -> None:
        self._request = request
        deployment = Deployment(
            views=request.views,
            frames=request.frames,
            frames_per_second=request.frames_per_second,
            image_size=request.image_size,
            max_text_tokens=request.max_text_tokens,
        )
        self.prompted = read_prompted(request.checkpoint, deployment, request.prompt, request.tokenizer)
        watch.start("build policy")
        self.plans = _plans(request, self.prompted)

    @property
    def model(self) -> nn.Module:
        """The model of the checkpoint."""
        return self.prompted.model

    @property
    def tolerance(self) -> AnsweringTolerance:
        """What the parity check lets through."""
        return self._request.tolerance

    def graphs(self) -> Sequence[GraphPlan]:
        """Return the two graphs of every profile."""
        return [graph for plan in self.plans for graph in _graphs(plan, self.prompted)]

    def compare(self, bundle: Path, watch: Stopwatch) -> Mapping[str, AnsweringParity]:
        """Compare every profile on random pictures and questions."""
        return check_answers(
            bundle, self.prompted, self.plans, watch, self._request.questions, self.tolerance
        )

    def account(self) -> Mapping[str, Account]:
        """Return what an answer of full length costs in each profile."""
        room = self._request.max_new_tokens
        return {plan.profile.name: account_answer(self.prompted, plan, room) for plan in self.plans}

    def parameters(self) -> Mapping[str, int]:
        """Return part of the model to number of parameters."""
        return parameter_counts(self.prompted.model)

    def write_files(self, bundle: Path) -> None:
        """Write the tokenizer."""
        shutil.copyfile(self.prompted.tokenizer, bundle / TOKENIZER_NAME)

    def manifest(self, files: Mapping[str, FileSpec]) -> Manifest:
        """Return the manifest."""
        request = self._request
        return build_answering_manifest(
            self.prompted,
            self.plans,
            files,
            max_new_tokens=request.max_new_tokens,
            weights_license=request.license or read_license(CheckpointFolder(request.checkpoint)),
            name=request.name,
        )


def _plans(request: AnsweringRequest, prompted: Prompted) -> tuple[AnsweringPlan, ...]:
    """Build both steps of every profile, and name their ports."""
    model = prompted.model
    plans = []
    for profile in plan_profiles(request.keep_ratios, model.grid.tokens):
        policy = build_policy(request.policy, request.options, model_shape(model))
        if policy.needs_calibration:
            raise ExportError(
                f"policy {policy.name!r}: expected options that need no calibration, found {policy.config.as_dict()}; "
                "a generating family cannot be calibrated yet."
            )
        prefill = PrefillStep(model, policy, profile.budget, new_tokens=request.max_new_tokens).eval()
        generation = GenerationStep(model, prefill.spans, request.kv_policy, dict(request.kv_options)).eval()
        plans.append(AnsweringPlan(profile, prefill, generation))
    return tuple(plans)


def _graphs(plan: AnsweringPlan, prompted: Prompted) -> tuple[GraphPlan, GraphPlan]:
    name = plan.profile.name
    token, position = torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, 1, dtype=torch.int64)
    prompt = (*prompted.example(), *initial_state(plan.prefill))
    further = (token, position, *plan.generation.initial_carry().values())
    return (
        GraphPlan(
            plan.prompt_graph,
            plan.prompt_graph,
            name,
            PromptGraph(plan.prefill, plan.generation),
            prompt,
            plan.prompt_ports,
            f"prompt of {name}",
        ),
        GraphPlan(
            plan.token_graph,
            plan.token_graph,
            name,
            plan.generation,
            further,
            plan.token_ports,
            f"token of {name}",
        ),
    )
