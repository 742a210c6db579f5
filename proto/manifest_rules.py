"""Rules between the parts of a manifest; what one part must satisfy alone is checked where it is defined.

Each function reads the whole manifest and raises a :class:`ManifestError` that names the JSON path.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from saccade.proto.addition_rules import check_additions
from saccade.proto.bundle_kind import BundleKind
from saccade.proto.bundle_layout import MANIFEST_NAME, bundle_path
from saccade.proto.errors import ManifestError
from saccade.proto.profile_names import FULL_PROFILE
from saccade.proto.tensor_names import (
    ACTIONS,
    ATTENTION_MASK,
    CARRY_OUTPUT_SUFFIX,
    ENCODED_AGES,
    FATE,
    IMAGES,
    KEPT,
    LOGITS,
    NOISE,
    POSITION_IDS,
    PROPRIO,
    SCORED_VIEWS,
    TOKEN,
    TOKEN_IDS,
    TOKEN_POSITION,
    VIEW_SCORES,
)
from saccade.proto.tensor_spec import TensorRole, TensorSpec

if TYPE_CHECKING:
    from saccade.proto.manifest import ActionSpec, Manifest, ProfileSpec, StageSpec

TRANSLATION_UNIT = "m"
MAX_TENSOR_BYTES = 1 << 30


def check(manifest: Manifest) -> None:
    """Check every rule between the parts of a manifest.

    Raises:
        ManifestError: The first rule that is broken.
    """
    _check_names(manifest)
    _check_kind(manifest)
    _check_sequence(manifest)
    _check_action(manifest)
    _check_limits(manifest)
    _check_tensors(manifest)
    _check_profiles(manifest)
    _check_gate(manifest)
    _check_files(manifest)
    check_additions(manifest)


def host_tensors(manifest: Manifest) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return dtype and shape of every tensor that the host knows how to fill, batch 1.

    ``images``: views in manifest order, RGB. ``proprio``: normalised with the statistics. ``token_ids``: the
    padded instruction. ``attention_mask`` (True = valid) and ``position_ids``: over the whole sequence. ``noise``:
    standard normal, of a bundle that draws actions out of it. Of a bundle that answers also ``token``, the last one of
    the answer, and ``token_position``, its rotary position; its ``images`` are what ``answer.picture_fit`` makes of
    each view, one view after the other.
    """
    positions = sum(segment.tokens for segment in manifest.sequence)
    return {
        IMAGES: ("uint8", (1, *_images(manifest), 3)),
        PROPRIO: ("float32", (1, manifest.proprio.dim)),
        TOKEN_IDS: ("int64", (1, manifest.instruction.max_tokens)),
        ATTENTION_MASK: ("bool", (1, positions)),
        POSITION_IDS: ("int64", (1, positions)),
        **({NOISE: _noise(manifest)} if manifest.noise_dim else {}),
        **({} if manifest.answer is None else dict.fromkeys((TOKEN, TOKEN_POSITION), ("int64", (1, 1)))),
    }


def _images(manifest: Manifest) -> tuple[int, int, int]:
    """Return how many pictures the graphs take, and their height and width."""
    view = manifest.views[0]
    size = view.height, view.width
    each, *shape = (1, *size) if manifest.answer is None else manifest.answer.picture_fit.arrays(size)
    return len(manifest.views) * each, shape[0], shape[1]


def _noise(manifest: Manifest) -> tuple[str, tuple[int, ...]]:
    return "float32", (1, manifest.action.chunk, manifest.noise_dim)


def result_tensors(manifest: Manifest) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return dtype and shape of every tensor that the host knows how to read, batch 1.

    ``actions``: normalised. ``kept``: original visual indices, ascending; -1 stands for the profile's keep. ``fate``:
    for each visual token the index of the kept token that carries it, itself if it was kept, -1 if it was dropped.
    ``encoded_ages``: for each visual token how many control steps ago its patch was encoded, 0 = in this one.
    Of a bundle that answers ``logits`` in the place of actions. Of a scorer only ``view_scores``: how much each view
    matters, not negative, views in manifest order.
    """
    if is_scorer(manifest):
        return {SCORED_VIEWS: ("float32", (1, len(manifest.views)))}
    told = {KEPT: ("int64", (1, -1)), FATE: ("int64", (1, manifest.grid.tokens))}
    if manifest.answer is not None:
        return {LOGITS: ("float32", (1, manifest.answer.vocab_size)), **told}
    ages = {ENCODED_AGES: ("int64", (1, manifest.grid.tokens))}
    return {ACTIONS: ("float32", (1, manifest.action.chunk, manifest.action.dim)), **told, **ages}


def task_tensors(manifest: Manifest) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return dtype and shape of every tensor that the host knows how to set once per task.

    ``task.view_scores``: how much each view of the grid matters, not negative, in their order.
    """
    return {} if is_scorer(manifest) else {VIEW_SCORES: ("float32", (1, manifest.grid.views))}


def is_scorer(manifest: Manifest) -> bool:
    """Say whether the bundle scores views for another one instead of controlling a robot."""
    return manifest.kind is BundleKind.SCORER


def answers(manifest: Manifest) -> bool:
    """Say whether the bundle answers in text instead of controlling a robot."""
    return manifest.kind is BundleKind.ANSWER


def translation_columns(action: ActionSpec) -> tuple[int, ...]:
    """Return the action dimensions that move the end effector through space: metres, and not the gripper's opening."""
    pairs = enumerate(zip(action.names, action.units, strict=True))
    return tuple(n for n, (name, unit) in pairs if unit == TRANSLATION_UNIT and "gripper" not in name)


def _check_names(manifest: Manifest) -> None:
    if not manifest.views or not manifest.profiles:
        raise ManifestError("$: expected at least one view and one profile.")
    if len({(view.height, view.width) for view in manifest.views}) > 1:
        raise ManifestError("$.views: expected one size for all views, found several; resize to the largest.")
    for where, names in (
        ("$.views", [view.name for view in manifest.views]),
        ("$.proprio.names", manifest.proprio.names),
        ("$.sequence", [segment.name for segment in manifest.sequence]),
        ("$.action.names", manifest.action.names),
        ("$.tensors", [spec.name for spec in manifest.tensors]),
        ("$.carry", [carry.name for carry in manifest.carry]),
        ("$.profiles", [profile.name for profile in manifest.profiles]),
    ):
        _check_unique(names, where)


def _check_unique(names: Iterable[str], where: str) -> None:
    seen: set[str] = set()
    for name in names:
        if not name or name in seen:
            raise ManifestError(f"{where}: expected unique, non-empty names, found {name!r} again or empty.")
        seen.add(name)


def _check_kind(manifest: Manifest) -> None:
    """What only one kind of bundle has is there in that kind, and nowhere else."""
    controls, is_answer = manifest.kind is BundleKind.CONTROL, answers(manifest)
    parts: dict[str, tuple[object, bool]] = {
        "action": (manifest.action.names, controls),
        "statistics": (manifest.statistics, controls),
        "statistics_key": (manifest.statistics_key, controls),
        "limits": (manifest.limits.low, controls),
        "answer": (manifest.answer, is_answer),
    }
    for name, (part, belongs) in parts.items():
        if belongs and not part:
            raise ManifestError(
                f"$.{name}: missing or empty; expected it in a bundle {_PURPOSE[manifest.kind]}: export again."
            )
        if part and not belongs:
            raise ManifestError(
                f"$.{name}: expected none in a bundle {_PURPOSE[manifest.kind]}, found one: leave it out or empty."
            )
    unfit: dict[str, object] = {"proprio": not controls and manifest.proprio.names}
    if is_scorer(manifest):
        unfit |= {"carry": manifest.carry, "profiles[1]": manifest.profiles[1:]}
    for name, part in unfit.items():
        if part:
            raise ManifestError(
                f"$.{name}: expected none in a bundle {_PURPOSE[manifest.kind]}, found one: leave it out or empty."
            )


_PURPOSE = {
    BundleKind.CONTROL: "that controls a robot",
    BundleKind.SCORER: "that scores views",
    BundleKind.ANSWER: "that answers",
}


def _check_gate(manifest: Manifest) -> None:
    if manifest.policy.gate is None:
        return
    action = manifest.action
    if not translation_columns(action) or not action.convention.startswith("delta"):
        raise ManifestError(
            f"$.policy.gate: expected actions that are displacements ('delta...') with a dimension in metres, found "
            f"{action.convention!r} of {', '.join(action.units) or 'nothing'}: export without the gate."
        )
    if any(action.relative[column] for column in translation_columns(action) if action.relative):
        raise ManifestError(
            "$.policy.gate: expected actions that stay displacements, found some that proprioception is added to: "
            "export without the gate."
        )


def _check_sequence(manifest: Manifest) -> None:
    tokens = {segment.name: segment.tokens for segment in manifest.sequence}
    for name, expected in (("visual", manifest.grid.tokens), ("text", manifest.instruction.max_tokens)):
        if tokens.get(name) != expected:
            raise ManifestError(
                f"$.sequence: expected segment {name!r} with {expected} tokens, found {tokens.get(name)}."
            )
    if manifest.answer is None and manifest.grid.views != len(manifest.views):
        raise ManifestError(
            f"$.grid.views: expected {len(manifest.views)} as in $.views, found {manifest.grid.views}."
        )
    video = None if manifest.answer is None else manifest.answer.video
    if video is not None and len(manifest.views) % video.frames:
        raise ManifestError(
            f"$.views: expected {video.frames} frames for each video, found {len(manifest.views)} views."
        )


def _check_action(manifest: Manifest) -> None:
    relative = [index for index, is_relative in enumerate(manifest.action.relative) if is_relative]
    if relative and relative[-1] >= manifest.proprio.dim:
        raise ManifestError(
            f"$.action.relative: expected it of dimensions that proprioception has, found it of {relative[-1]} where "
            f"there are {manifest.proprio.dim}."
        )
    needs_noise = any(spec.name == NOISE for spec in manifest.tensors)
    if manifest.noise_dim < 0 or needs_noise != (manifest.noise_dim > 0):
        raise ManifestError(
            f"$.noise_dim: expected more than 0 where there is a tensor {NOISE!r} and else 0, found "
            f"{manifest.noise_dim}."
        )


def _check_limits(manifest: Manifest) -> None:
    if len(manifest.limits.low) != manifest.action.dim:
        raise ManifestError(
            f"$.limits: expected {manifest.action.dim} numbers as in $.action.names, "
            f"found {len(manifest.limits.low)}."
        )


def _check_tensors(manifest: Manifest) -> None:
    known = {
        TensorRole.HOST: host_tensors(manifest),
        TensorRole.TASK: task_tensors(manifest),
        TensorRole.RESULT: result_tensors(manifest),
    }
    for index, spec in enumerate(manifest.tensors):
        where = f"$.tensors[{index}]"
        if spec.resolve(keep=manifest.grid.tokens).nbytes > MAX_TENSOR_BYTES:
            raise ManifestError(
                f"{where}: expected at most {MAX_TENSOR_BYTES} bytes, found shape {spec.shape}."
            )
        if spec.role in known:
            _check_known_tensor(spec, known[spec.role], where)
        if spec.role is TensorRole.CARRY and -1 in spec.shape:
            raise ManifestError(
                f"{where}: expected a carry of one shape for all profiles, found {spec.shape}."
            )
    declared = {carry.name for carry in manifest.carry}
    carried = {spec.name for spec in manifest.tensors if spec.role is TensorRole.CARRY}
    if declared != carried:
        raise ManifestError(
            f"$.carry: expected the tensors of role 'carry' {sorted(carried)}, found {sorted(declared)}."
        )


def _check_known_tensor(spec: TensorSpec, known: dict[str, tuple[str, tuple[int, ...]]], where: str) -> None:
    if spec.name not in known:
        raise ManifestError(
            f"{where}: expected a {spec.role.value} tensor that the runtime knows ({', '.join(known)}), "
            f"found {spec.name!r}."
        )
    dtype, shape = known[spec.name]
    if (spec.dtype, spec.shape) != (dtype, shape):
        raise ManifestError(
            f"{where}: expected {spec.name} to be {dtype}{list(shape)} by the rest of the manifest, "
            f"found {spec.dtype}{list(spec.shape)}."
        )


def _check_profiles(manifest: Manifest) -> None:
    tokens = manifest.grid.tokens
    full = [profile.keep for profile in manifest.profiles if profile.name == FULL_PROFILE]
    if full != [tokens]:
        raise ManifestError(
            f"$.profiles: expected one named {FULL_PROFILE!r} with keep {tokens}, found {full or 'none'}."
        )
    for index, profile in enumerate(manifest.profiles):
        where = f"$.profiles[{index}]"
        if not 1 <= profile.keep <= tokens:
            raise ManifestError(f"{where}.keep: expected 1..{tokens}, found {profile.keep}.")
        if not 0 < profile.keep_ratio <= 1 or (profile.keep_ratio == 1) != (profile.keep == tokens):
            raise ManifestError(
                f"{where}.keep_ratio: expected above 0 and at most 1, and 1 exactly where all {tokens} visual tokens "
                f"survive, found {profile.keep_ratio} where {profile.keep} survive."
            )
        _check_program(manifest, profile, where)
        _check_tokens(manifest, profile, where)


def _check_program(manifest: Manifest, profile: ProfileSpec, where: str) -> None:
    """Follow the stages in order: nothing is read before it is written, nothing is written twice."""
    roles = {spec.name: spec.role for spec in manifest.tensors}
    given = (TensorRole.HOST, TensorRole.TASK, TensorRole.CARRY)
    readable = {name for name, role in roles.items() if role in given}
    written: set[str] = set()
    _check_unique([stage.name for stage in profile.stages], f"{where}.stages")
    for index, stage in enumerate(profile.stages):
        _check_stage(stage, roles, readable, written, f"{where}.stages[{index}]")
    carried = {name for name, role in roles.items() if role is TensorRole.CARRY}
    if carried & written not in (carried, set()):
        raise ManifestError(
            f"{where}.stages: expected every profile to write every carry or none, "
            f"found {sorted(carried - written)} not written."
        )
    purpose = {BundleKind.SCORER: SCORED_VIEWS, BundleKind.ANSWER: LOGITS}.get(manifest.kind, ACTIONS)
    if purpose not in written or roles[purpose] is not TensorRole.RESULT:
        raise ManifestError(f"{where}.stages: expected one of them to write the result {purpose!r}.")


def _check_tokens(manifest: Manifest, profile: ProfileSpec, where: str) -> None:
    """Follow the stages of a further token: caches are read as they were left last, and all are written."""
    if bool(profile.token_stages) != answers(manifest):
        wanted = "some" if answers(manifest) else "none"
        raise ManifestError(f"{where}.token_stages: expected {wanted} in a bundle {_PURPOSE[manifest.kind]}.")
    roles = {spec.name: spec.role for spec in manifest.tensors}
    filled = {
        name
        for stage in profile.stages
        for name in stage.outputs.values()
        if roles.get(name) is TensorRole.CACHE
    }
    readable = {name for name, role in roles.items() if role is TensorRole.HOST} | filled
    written: set[str] = set()
    for index, stage in enumerate(profile.token_stages):
        _check_stage(stage, roles, readable, written, f"{where}.token_stages[{index}]")
    if profile.token_stages and written != filled | {LOGITS}:
        raise ManifestError(
            f"{where}.token_stages: expected them to write {LOGITS!r} and every cache that the prompt filled, found "
            f"on one side only {sorted(written ^ (filled | {LOGITS}))}."
        )


def _check_stage(
    stage: StageSpec, roles: dict[str, TensorRole], readable: set[str], written: set[str], where: str
) -> None:
    for port, tensor in stage.inputs.items():
        if tensor not in readable:
            raise ManifestError(
                f"{where}.inputs.{port}: expected a host, task or carry tensor, or one that an earlier stage "
                f"wrote, found {tensor!r}."
            )
    for port, tensor in stage.outputs.items():
        if roles.get(tensor, TensorRole.HOST) in (TensorRole.HOST, TensorRole.TASK) or tensor in written:
            raise ManifestError(
                f"{where}.outputs.{port}: expected a declared tensor that the host does not fill and that no "
                f"other output writes, found {tensor!r}."
            )
        if roles[tensor] in _ROUND and port != tensor + CARRY_OUTPUT_SUFFIX:
            raise ManifestError(
                f"{where}.outputs.{port}: expected the {roles[tensor].value} {tensor!r} to be written by the graph "
                f"output {tensor + CARRY_OUTPUT_SUFFIX!r}."
            )
        written.add(tensor)
    readable.update(tensor for tensor in stage.outputs.values() if roles[tensor] not in _ROUND)


_ROUND = (TensorRole.CARRY, TensorRole.CACHE)
"""Roles of tensors that go round: written for the next step, not for a later stage of this one."""


def _check_files(manifest: Manifest) -> None:
    for path in manifest.files:
        bundle_path(path, "$.files")
    if MANIFEST_NAME in manifest.files:
        raise ManifestError(f"$.files: expected every file but {MANIFEST_NAME} itself, found it listed.")
    references = [
        ("$.instruction.tokenizer", manifest.instruction.tokenizer),
        *([("$.statistics", manifest.statistics)] if manifest.statistics else []),
        *(
            (f"$.profiles[{index}].stages[{number}].graph", stage.graph)
            for index, profile in enumerate(manifest.profiles)
            for number, stage in enumerate((*profile.stages, *profile.token_stages))
        ),
    ]
    for where, path in references:
        if bundle_path(path, where) not in manifest.files:
            raise ManifestError(f"{where}: expected a file listed in $.files, found {path!r}.")
