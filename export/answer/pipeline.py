"""Checkpoint of a generating family to a bundle that answers: capture prompt and token graphs, lint, compare, write."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch

from saccade.export.answer.accounting import account_answers
from saccade.export.answer.manifest import build_answering_manifest
from saccade.export.answer.parity import AnsweringParity, check_answers
from saccade.export.answer.plan import AnsweringPlan, PromptGraph
from saccade.export.bundle.graph_session import memory_of_check
from saccade.export.bundle.manifest_parts import producers
from saccade.export.bundle.profile_plan import plan_profiles
from saccade.export.bundle.progress import Progress, counted
from saccade.export.bundle.writer import BundleWriter, check_space, check_target, clear_abandoned
from saccade.export.families.deployment import Deployment
from saccade.export.families.prompts import Prompted, read_prompted
from saccade.export.loading.license import read_license
from saccade.export.loading.weights import weight_bytes
from saccade.export.lowering.capture import to_graph
from saccade.export.lowering.lint import lint
from saccade.export.lowering.shared_weights import SharedWeights
from saccade.export.steps.generation_step import GenerationStep
from saccade.export.steps.placement_rules import model_shape
from saccade.export.steps.prefill_step import PrefillStep
from saccade.export.steps.selecting_module import initial_state
from saccade.policies.registry import build_policy
from saccade.proto.errors import ExportError
from saccade.proto.manifest import Manifest

TOKENIZER_NAME = "tokenizer.json"


@dataclass(frozen=True, kw_only=True)
class AnsweringRequest:
    """What to export.

    Args:
        checkpoint: Folder of the checkpoint.
        out: The bundle to be.
        policy: Registry name of the token-selection policy.
        options: Its options.
        keep_ratios: One profile each; 1.0 must be among them.
        prompt: Text with ``<image>`` for each picture and ``{instruction}`` once; None = the family's.
        views: Pictures, or videos, of one question.
        frames: Of each video; 0 = still pictures.
        frames_per_second: Of the videos; for families that tell the time of a frame.
        image_size: Height and width of the pictures, pixels; None = what the tower takes.
        max_text_tokens: Room for the question.
        max_new_tokens: Room for the answer.
        kv_policy: Registry name of the policy over cache entries.
        kv_options: Its options.
        questions: On which both engines are compared, in each profile.
        license: SPDX identifier of the weights; None = what the checkpoint's model card says.
        overwrite: Replace a bundle at ``out``.
    """

    checkpoint: Path
    out: Path
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
    overwrite: bool = False


def export_answering(request: AnsweringRequest, say: Progress) -> Manifest:
    """Export a checkpoint; like a single-pass one, it is never in memory as a whole.

    Args:
        request: What and where to.
        say: Told as each part begins.

    Raises:
        SaccadeError: Something does not fit or a check failed; nothing is left behind.
    """
    clear_abandoned(request.out)
    check_target(request.out, overwrite=request.overwrite)
    say("load checkpoint")
    deployment = Deployment(
        views=request.views,
        frames=request.frames,
        frames_per_second=request.frames_per_second,
        image_size=request.image_size,
        max_text_tokens=request.max_text_tokens,
    )
    prompted = read_prompted(request.checkpoint, deployment, request.prompt)
    check_space(request.out, weight_bytes(prompted.model))
    plans = _plan(request, prompted)
    with BundleWriter(request.out, overwrite=request.overwrite) as writer:
        for name in ("graphs", "receipts"):
            (writer.folder / name).mkdir()
        linted = _capture_all(writer.folder, prompted, plans, say)
        say("parity")
        compared = check_answers(writer.folder, prompted, plans, say, request.questions)
        shutil.copyfile(request.checkpoint / TOKENIZER_NAME, writer.folder / TOKENIZER_NAME)
        say("accounting")
        accounts = account_answers(prompted, plans, request.max_new_tokens)
        held = memory_of_check(prompted.model, writer.folder / plans[0].prompt_graph)
        _write_receipts(writer.folder, linted, compared, held, accounts)
        return writer.commit(
            lambda files: build_answering_manifest(
                prompted,
                plans,
                files,
                max_new_tokens=request.max_new_tokens,
                weights_license=request.license or read_license(request.checkpoint),
            )
        )


def _plan(request: AnsweringRequest, prompted: Prompted) -> tuple[AnsweringPlan, ...]:
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


def _capture_all(
    folder: Path, prompted: Prompted, plans: Sequence[AnsweringPlan], say: Progress
) -> dict[str, dict[str, Any]]:
    linted: dict[str, dict[str, Any]] = {}
    example = prompted.example()
    with SharedWeights(folder / "graphs") as weights:
        for plan in plans:
            name = plan.profile.name
            say(f"{name}: capture")
            prompt = PromptGraph(plan.prefill, plan.generation)
            state = initial_state(plan.prefill)
            graphs = {
                plan.prompt_graph: to_graph(
                    prompt, (*example, *state), plan.prompt_ports, f"prompt of {name}"
                )
            }
            token = (torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, 1, dtype=torch.int64))
            empty = tuple(plan.generation.initial_carry().values())
            graphs[plan.token_graph] = to_graph(
                plan.generation, (*token, *empty), plan.token_ports, f"token of {name}"
            )
            for path, graph in graphs.items():
                linted[path] = asdict(lint(graph, path))
                weights.adopt(graph, counted(say, f"{name}: weights", "GB", 1e9))
                ir.save(graph, folder / path)
    return linted


def _write_receipts(
    folder: Path,
    linted: Mapping[str, Any],
    compared: Mapping[str, AnsweringParity],
    held: Mapping[str, Any],
    accounts: Mapping[str, Any],
) -> None:
    receipts: dict[str, Any] = {
        "lint": linted,
        "accounting": accounts,
        "parity": {
            "weights": dict(held),
            "profiles": {name: asdict(receipt) for name, receipt in compared.items()},
        },
        "export": {"versions": producers()},
    }
    for name, content in receipts.items():
        text = json.dumps(content, indent=2, allow_nan=False) + "\n"
        (folder / "receipts" / f"{name}.json").write_text(text, encoding="utf-8")
