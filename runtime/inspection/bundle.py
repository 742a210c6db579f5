"""The robot's half of ``saccade inspect``: what a bundle's manifest and accounting receipt say. No torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from saccade.proto.accounting import ACCOUNTING_RECEIPT, EXPORT_RECEIPT, Account, accounts_from_json
from saccade.proto.errors import BundleIntegrityError, UnknownProfileError
from saccade.proto.inspection import Budget, CutPlace, Inspection, PolicyFit
from saccade.proto.manifest import Manifest, ProfileSpec
from saccade.proto.manifest_rules import is_scorer
from saccade.proto.roofline import PROJECTOR, VISION
from saccade.proto.statistics import tell_never_varied
from saccade.proto.tensor_spec import TensorRole
from saccade.runtime.bundle import Bundle
from saccade.runtime.inspection.limits import tell_limits
from saccade.runtime.program import read_statistics


def inspect_bundle(bundle: Bundle, keep_ratios: tuple[float, ...] | None = None) -> Inspection:
    """Find out what a verified bundle is and what it costs, without running it.

    Args:
        bundle: The bundle.
        keep_ratios: Keep ratios of the profiles to look at, ``full`` always among them; None = all profiles.

    Raises:
        UnknownProfileError: The bundle has no profile of such a ratio.
        BundleIntegrityError: The accounting receipt cannot be read, or lacks a part.
        StatisticsError: The statistics cannot be read.
    """
    manifest = bundle.manifest
    accounts = _accounts(bundle)
    profiles = _chosen(manifest, keep_ratios)
    budgets = tuple(
        _budget(profile, accounts[profile.name]) for profile in profiles if profile.name in accounts
    )
    return Inspection(
        kind="bundle",
        name=manifest.name,
        family=manifest.family,
        facts={**_facts(manifest), **_usual(bundle)},
        dimensions={"sequence": {segment.name: segment.tokens for segment in manifest.sequence}},
        visual_tokens=manifest.grid.tokens,
        unit="control step"
        if manifest.answer is None
        else f"answer of {manifest.answer.max_new_tokens} tokens",
        parameters=_parameters(bundle, budgets),
        budgets=budgets,
        policies=(
            PolicyFit(
                manifest.policy.name, fits=True, acts=tuple(_cut_places(budgets, manifest.grid.tokens))
            ),
        ),
        notes=tuple(_notes(accounts)),
    )


def _accounts(bundle: Bundle) -> dict[str, Account]:
    """Return what each profile costs, empty if the bundle does not say."""
    value = _read(bundle, ACCOUNTING_RECEIPT)
    return {} if value is None else accounts_from_json(value, bundle.manifest.grid.tokens)


def _read(bundle: Bundle, name: str) -> Any:
    """Return the JSON of a receipt, None if there is no such file."""
    if name not in bundle.manifest.files:
        return None
    try:
        return json.loads(bundle.read(name))
    except ValueError as error:
        raise BundleIntegrityError(
            f"{name}: expected JSON, found: {error}; export the bundle again."
        ) from error


def _parameters(bundle: Bundle, budgets: Sequence[Budget]) -> dict[str, int]:
    """Return the parameters that the export counted; of earlier bundles, those that a pass reads."""
    receipt = _read(bundle, EXPORT_RECEIPT)
    counted = receipt.get("parameters") if isinstance(receipt, dict) else None
    if isinstance(counted, dict):
        return {str(name): int(count) for name, count in counted.items()}
    return {part.name: part.weights for part in budgets[0].parts if part.weights} if budgets else {}


def _chosen(manifest: Manifest, keep_ratios: tuple[float, ...] | None) -> tuple[ProfileSpec, ...]:
    """Return the profiles of some keep ratios, largest first."""
    profiles = sorted(manifest.profiles, key=lambda profile: -profile.keep)
    known = {profile.keep_ratio for profile in profiles}
    wanted = known if keep_ratios is None else {1.0, *keep_ratios}
    if not wanted <= known:
        raise UnknownProfileError(
            f"expected keep ratios of the bundle's profiles, {sorted(known)}, found {sorted(wanted - known)}."
        )
    return tuple(profile for profile in profiles if profile.keep_ratio in wanted)


def _budget(profile: ProfileSpec, account: Account) -> Budget:
    return Budget(profile.name, profile.keep, profile.keep_ratio, account.parts, account.visual_by_layer)


def _cut_places(budgets: Sequence[Budget], tokens: int) -> Iterator[CutPlace]:
    """Where tokens are dropped at the smallest budget, as far as the costs tell."""
    if len(budgets) < 2:
        return
    full, small = ({part.name: part.macs for part in budget.parts} for budget in (budgets[0], budgets[-1]))
    before, layers = tokens, budgets[-1].visual_by_layer
    if small[VISION] < full[VISION]:
        yield CutPlace("tower")
        if small[PROJECTOR] < full[PROJECTOR]:
            before = layers[0]  # what the tower drops never reaches the projector
    for layer, alive in enumerate(layers):
        if alive < before and layer == 0 and small[PROJECTOR] < full[PROJECTOR]:
            yield CutPlace("projector")
        elif alive < before:
            yield CutPlace("decoder", layer)
        before = alive


def _notes(accounts: Mapping[str, Account]) -> list[str]:
    if not accounts:
        return [
            f"No costs are known: the bundle has no {ACCOUNTING_RECEIPT}; export it again with this version."
        ]
    return ["Costs are those of the export's own accounting, what the policy computes among them."]


def _facts(manifest: Manifest) -> dict[str, str]:
    """Return what a person wants to know first."""
    size = sum(spec.bytes for spec in manifest.files.values())
    grid = manifest.grid
    return {
        "license": manifest.license,
        "created": manifest.created,
        "files": f"{len(manifest.files)} verified, {size / 1e6:.1f} MB",
        "views": ", ".join(f"{view.name} {view.height}x{view.width}" for view in manifest.views)
        + f": {grid.views} x ({grid.rows} x {grid.columns}) = {grid.tokens} visual tokens",
        "profiles": ", ".join(
            f"{profile.name} {profile.keep} of {grid.tokens} ({' -> '.join(stage.name for stage in profile.stages)})"
            for profile in manifest.profiles
        ),
        **_purpose(manifest),
    }


def _purpose(manifest: Manifest) -> dict[str, str]:
    if is_scorer(manifest):
        return {"scores": "these views, once per task"}
    if manifest.answer is not None:
        answer = manifest.answer
        return {
            "answers": f"questions of at most {manifest.instruction.max_tokens} tokens "
            f"with at most {answer.max_new_tokens}",
            "policy": manifest.policy.name,
        }
    return _control_facts(manifest)


def _control_facts(manifest: Manifest) -> dict[str, str]:
    action, policy = manifest.action, manifest.policy
    gate = "none"
    if policy.gate is not None:
        gate = f"full while the arm is slow: {policy.gate.window} chunks against {policy.gate.look_back} windows before"
    counted = [name for name, is_relative in zip(action.names, action.relative, strict=False) if is_relative]
    return {
        "proprio": _quantities(manifest.proprio.names, manifest.proprio.units),
        "action": f"{_quantities(action.names, action.units)}; {action.convention}, chunk {action.chunk} "
        f"at {action.control_hz:g} Hz",
        **tell_limits(manifest),
        **({"relative": f"{', '.join(counted)}; the state is added here"} if counted else {}),
        **({"noise": f"{manifest.noise_dim} numbers an action, drawn here"} if manifest.noise_dim else {}),
        "policy": f"{policy.name}, warm-up {policy.warmup_steps} steps, "
        f"refresh every {policy.refresh_every or 'never'}",
        "gate": gate,
        **_camera_cut(manifest),
        "task": ", ".join(spec.name for spec in manifest.tensors if spec.role is TensorRole.TASK) or "none",
        "carry": ", ".join(carry.name for carry in manifest.carry) or "none",
    }


def _camera_cut(manifest: Manifest) -> dict[str, str]:
    cut = manifest.policy.camera_cut
    return {} if cut is None else {"camera cut": f"full when a view changes {cut.change:.0%} of its colours"}


def _usual(bundle: Bundle) -> dict[str, str]:
    """Return the range that the data set has of each number of proprioception, and what never varied in it."""
    manifest, statistics = bundle.manifest, read_statistics(bundle)
    spec, bounds = manifest.proprio, zip(*statistics.proprio.bounds, strict=True)
    ranges = (f"{name} {low:.3g} to {high:.3g}" for name, (low, high) in zip(spec.names, bounds, strict=True))
    usual = ", ".join(ranges)
    constant = tell_never_varied(
        statistics.never_varied(proprio=spec.names, action=manifest.action.names)
        if manifest.statistics
        else {}
    )
    return {**({"usual": usual} if usual else {}), **({"constant": constant} if constant else {})}


def _quantities(names: tuple[str, ...], units: tuple[str, ...]) -> str:
    return ", ".join(
        name if unit == "1" else f"{name} [{unit}]" for name, unit in zip(names, units, strict=True)
    )
