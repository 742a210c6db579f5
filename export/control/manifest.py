"""The manifest of a bundle, from what the checkpoint and the policy say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone

from saccade.export.bundle.manifest_parts import carry_tensor, policy_spec, producers, task_tensor
from saccade.export.bundle.profile_plan import ProfilePlan
from saccade.export.families.base import ActingFamily
from saccade.export.families.checkpoint import Checkpoint
from saccade.export.steps.acting_step import ActingStep
from saccade.policies.base import TokenPolicy
from saccade.proto.manifest import (
    CarrySpec,
    FileSpec,
    GridSpec,
    Manifest,
    ProfileSpec,
    SegmentSpec,
    StageSpec,
    ViewSpec,
)
from saccade.proto.profile_names import FULL_PROFILE
from saccade.proto.statistics import STATISTICS_NAME
from saccade.proto.tensor_names import ACTIONS, CARRY_OUTPUT_SUFFIX, ENCODED_AGES, FATE, KEPT, NOISE
from saccade.proto.tensor_spec import TensorRole, TensorSpec
from saccade.proto.versions import BUNDLE_FORMAT_VERSION


def build_manifest(
    checkpoint: Checkpoint[ActingFamily],
    steps: Mapping[str, ActingStep],
    plans: Sequence[ProfilePlan],
    files: Mapping[str, FileSpec],
    name: str | None = None,
) -> Manifest:
    """Assemble the manifest; its own rules are checked as it is built.

    Args:
        checkpoint: Checkpoint that was exported.
        steps: Step of each profile by name; carry and schedule of the policy are the same for all.
        plans: All profiles, in order.
        files: Size and hash of every file of the bundle, by path.
        name: Name of the bundle; None = the embodiment's.
    """
    step = steps[FULL_PROFILE]
    embodiment, model, policy = checkpoint.embodiment, checkpoint.model, step.policy
    return Manifest(
        format_version=BUNDLE_FORMAT_VERSION,
        name=name or embodiment.name,
        family=checkpoint.family,
        license=embodiment.license,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        producer=producers(),
        views=tuple(ViewSpec(name, *model.image_size) for name in embodiment.views),
        proprio=embodiment.proprio,
        instruction=checkpoint.instruction,
        sequence=tuple(SegmentSpec(name, tokens) for name, tokens in model.segments.items()),
        action=embodiment.action,
        noise_dim=model.noise_dim,
        statistics=STATISTICS_NAME,
        statistics_key=embodiment.statistics_key,
        tensors=(
            *_host_tensors(checkpoint),
            *(task_tensor(name, model.grid) for name in step.task_inputs),
            *map(carry_tensor, step.carry_specs),
            *_result_tensors(checkpoint, step.told),
        ),
        carry=tuple(CarrySpec(spec.name, spec.initial) for spec in step.carry_specs),
        profiles=tuple(_profile(plan, steps[plan.name], policy) for plan in plans),
        policy=policy_spec(policy),
        grid=GridSpec(model.grid.views, model.grid.rows, model.grid.columns),
        limits=embodiment.limits,
        files=dict(files),
    )


def _host_tensors(checkpoint: Checkpoint[ActingFamily]) -> tuple[TensorSpec, ...]:
    embodiment, model, host = checkpoint.embodiment, checkpoint.model, TensorRole.HOST
    positions, text = sum(model.segments.values()), checkpoint.instruction.max_tokens
    image = ("batch", "views", "height", "width", "channels")
    known: dict[str, tuple[str, tuple[int, ...], tuple[str, ...], str]] = {
        "images": ("uint8", (1, len(embodiment.views), *model.image_size, 3), image, "1"),
        "proprio": ("float32", (1, embodiment.proprio.dim), ("batch", "proprio"), "1"),
        "token_ids": ("int64", (1, text), ("batch", "text"), "token"),
        "attention_mask": ("bool", (1, positions), ("batch", "positions"), "1"),
        "position_ids": ("int64", (1, positions), ("batch", "positions"), "index"),
        NOISE: ("float32", (1, model.action_shape[0], model.noise_dim), ("batch", "chunk", "noise"), "1"),
    }
    return tuple(TensorSpec(name, *known[name], host) for name in model.host_inputs)


def _result_tensors(checkpoint: Checkpoint[ActingFamily], told: Sequence[str]) -> tuple[TensorSpec, ...]:
    model, result = checkpoint.model, TensorRole.RESULT
    units = {FATE: "index", ENCODED_AGES: "1"}
    tokens = (1, model.grid.tokens)
    return (
        TensorSpec(ACTIONS, "float32", (1, *model.action_shape), ("batch", "chunk", "action"), "1", result),
        TensorSpec(KEPT, "int64", (1, -1), ("batch", "keep"), "index", result),
        *(TensorSpec(name, "int64", tokens, ("batch", "tokens"), units[name], result) for name in told),
    )


def _profile(plan: ProfilePlan, step: ActingStep, policy: TokenPolicy) -> ProfileSpec:
    ports = step.ports
    inputs = {name: name for name in ports.inputs}
    outputs = {name: name.removesuffix(CARRY_OUTPUT_SUFFIX) for name in ports.outputs}
    stage = StageSpec("step", plan.graph, inputs, outputs)
    own = {} if step.policy.config == policy.config else step.policy.config.as_dict()
    return ProfileSpec(plan.name, step.survivors, plan.ratio, (stage,), policy_config=own)
