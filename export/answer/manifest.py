"""The manifest of a bundle that answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone

from saccade.export.answer.plan import AnsweringPlan
from saccade.export.bundle.manifest_parts import carry_tensor, policy_spec, producers, task_tensor
from saccade.export.families.prompts import Prompted
from saccade.proto.answer_spec import AnswerSpec
from saccade.proto.bundle_kind import BundleKind
from saccade.proto.manifest import (
    CarrySpec,
    FileSpec,
    GridSpec,
    Manifest,
    ProfileSpec,
    SegmentSpec,
    StageSpec,
    VectorSpec,
    ViewSpec,
)
from saccade.proto.tensor_names import CARRY_OUTPUT_SUFFIX, FATE, KEPT, LOGITS, TOKEN, TOKEN_POSITION
from saccade.proto.tensor_spec import TensorRole, TensorSpec
from saccade.proto.versions import BUNDLE_FORMAT_VERSION


def build_answering_manifest(
    prompted: Prompted,
    plans: Sequence[AnsweringPlan],
    files: Mapping[str, FileSpec],
    *,
    max_new_tokens: int,
    weights_license: str,
    name: str | None = None,
) -> Manifest:
    """Assemble the manifest; its own rules are checked as it is built.

    Args:
        prompted: Checkpoint that was exported.
        plans: All profiles, in order.
        files: Size and hash of every file of the bundle, by path.
        max_new_tokens: Room for an answer, tokens.
        weights_license: SPDX identifier of the weights' license.
        name: Name of the bundle; None = the model's.
    """
    model, prefill = prompted.model, plans[0].prefill
    views = tuple(ViewSpec(name, *prompted.image_size) for name in prompted.views)
    return Manifest(
        format_version=BUNDLE_FORMAT_VERSION,
        kind=BundleKind.ANSWER,
        name=name or prompted.name,
        family=prompted.family,
        license=weights_license,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        producer=producers(),
        views=views,
        proprio=VectorSpec((), ()),
        instruction=prompted.instruction,
        sequence=tuple(SegmentSpec(name, tokens) for name, tokens in model.layout.segments.items() if tokens),
        answer=AnswerSpec(
            model.decoder.config.vocab_size,
            max_new_tokens,
            model.first_position,
            prompted.end_ids,
            prompted.picture_fit,
            prompted.video,
            prompted.choice,
        ),
        tensors=(
            *_host_tensors(prompted),
            *(task_tensor(name, model.grid) for name in prefill.task_inputs),
            *map(carry_tensor, prefill.carry_specs),
            *(tensor for plan in plans for tensor in _cache_tensors(plan)),
            *_result_tensors(prompted, tells_fate=prefill.tells_fate),
        ),
        carry=tuple(CarrySpec(spec.name, spec.initial) for spec in prefill.carry_specs),
        profiles=tuple(map(_profile, plans)),
        policy=policy_spec(prefill.policy),
        grid=GridSpec(model.grid.views, model.grid.rows, model.grid.columns),
        files=dict(files),
    )


def _host_tensors(prompted: Prompted) -> tuple[TensorSpec, ...]:
    deployment, tokens = prompted.deployment, prompted.model.layout.tokens
    image, host = ("batch", "views", "height", "width", "channels"), TensorRole.HOST
    return (
        TensorSpec("images", "uint8", (1, *prompted.images_shape, 3), image, "1", host),
        TensorSpec("token_ids", "int64", (1, deployment.max_text_tokens), ("batch", "text"), "token", host),
        TensorSpec("attention_mask", "bool", (1, tokens), ("batch", "positions"), "1", host),
        TensorSpec(TOKEN, "int64", (1, 1), ("batch", "text"), "token", host),
        TensorSpec(TOKEN_POSITION, "int64", (1, 1), ("batch", "text"), "index", host),
    )


def _cache_tensors(plan: AnsweringPlan) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name, spec.dtype, spec.shape, spec.dims, "1", TensorRole.CACHE)
        for name, spec in zip(plan.caches, plan.generation.carry_specs, strict=True)
    )


def _result_tensors(prompted: Prompted, *, tells_fate: bool) -> tuple[TensorSpec, ...]:
    result, model = TensorRole.RESULT, prompted.model
    found = (
        TensorSpec(
            LOGITS, "float32", (1, model.decoder.config.vocab_size), ("batch", "vocabulary"), "1", result
        ),
        TensorSpec(KEPT, "int64", (1, -1), ("batch", "keep"), "index", result),
        TensorSpec(FATE, "int64", (1, model.grid.tokens), ("batch", "tokens"), "index", result),
    )
    return found if tells_fate else found[:2]


def _profile(plan: AnsweringPlan) -> ProfileSpec:
    stages = []
    for name, graph, ports in (
        ("prompt", plan.prompt_graph, plan.prompt_ports),
        ("token", plan.token_graph, plan.token_ports),
    ):
        inputs = {port: port for port in ports.inputs}
        outputs = {port: port.removesuffix(CARRY_OUTPUT_SUFFIX) for port in ports.outputs}
        stages.append(StageSpec(name, graph, inputs, outputs))
    return ProfileSpec(
        plan.profile.name, plan.prefill.survivors, plan.profile.ratio, (stages[0],), (stages[1],)
    )
