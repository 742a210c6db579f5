"""The table: one row for each policy, budget and schedule, from results files and the bundles' own receipts."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.selection.contenders import Contender
from benchmarks.selection.paired import Paired, paired
from saccade.proto.manifest import read_manifest
from saccade.proto.policy_spec import PolicySpec
from saccade.proto.profile_names import FULL_PROFILE
from saccade.sim.scoring import SuccessRate
from saccade.sim.tabletop.phases import Phase


@dataclass(frozen=True)
class Row:
    """One policy at one budget and schedule.

    Args:
        label: Label of the contender.
        profile: Name of the bundle's profile.
        success: Success over all tasks.
        errors: Errors that :func:`benchmarks.selection.phases.replay` found; empty for ``full``.
        tokens: Mean visual tokens over the decoder's layers and over all control steps that ran, full ones included.
        macs: Multiply-accumulates of the mean control step of all that ran, as a share of the unpruned model's.
        step_ms: Latency of the mean control step of all that ran, milliseconds: each counts with the median that its
            profile takes side by side with all others; NaN where that was not measured.
        opening: Control steps at the start of an episode that ran ``full`` whatever the policy.
        own_full: Which control steps run ``full`` because the method cannot do without, in words; empty = none.
        full_share: Share of all control steps that ran ``full``.
        versus: Pairs with each reference row of the same budget and schedule, by the reference's label.
        selection: Share of the pruned control step that choosing takes; None where nothing has the same cut.
    """

    label: str
    profile: str
    success: SuccessRate
    errors: Mapping[str, Mapping[str, Any]]
    tokens: float
    macs: float
    step_ms: float
    opening: int = 0
    own_full: str = ""
    full_share: float = 0.0
    versus: Mapping[str, Paired] = field(default_factory=dict)
    selection: float | None = None


def rows(
    contenders: Sequence[Contender],
    bundles: Mapping[str, Path],
    loop: Mapping[str, Any],
    phases: Mapping[str, Any],
    latency: Mapping[str, Any],
    references: Sequence[str] = (),
    templates: Sequence[str] | None = None,
) -> list[Row]:
    """Join what was measured; a row that has not been run is left out.

    Args:
        contenders: Contenders in order; the first one's ``full`` is everybody's.
        bundles: Folder of each contender's bundle, by label.
        loop: Results of the closed loop.
        phases: Action errors.
        latency: Latencies of each bundle and profile.
        references: Labels of the contenders that every row is paired with, besides ``full``.
        templates: Templates that count; None = all.
    """
    times = {
        (entry["label"], entry["profile"]): entry["p50_us"] / 1e3 for entry in latency.get("entries", [])
    }
    cells: dict[tuple[str, str, int], dict[str, Mapping[str, Any]]] = {}
    for cell in loop.get("cells", []):
        label, template, profile, is_told_wrong, opening = cell["key"]
        if not is_told_wrong and (templates is None or template in templates):
            cells.setdefault((label, profile, opening), {})[template] = cell
    whole = cells.get((contenders[0].label, FULL_PROFILE, 0), {})
    joined = []
    for contender in contenders:
        label = contender.label
        accounts = json.loads((bundles[label] / "receipts" / "accounting.json").read_text(encoding="utf-8"))
        own_full = full_steps_of(read_manifest(bundles[label]).policy)
        for profile, opening in sorted(
            (profile, opening) for name, profile, opening in cells if name == label
        ):
            found = cells[label, profile, opening]
            ran = _ran(found)
            p50, fixed = times.get((label, profile), math.nan), times.get((contender.twin or "", profile))
            outcomes = "".join(cell["outcomes"] for cell in found.values())
            others = {FULL_PROFILE: whole} | {
                name: cells.get((name, profile, opening), {}) for name in references
            }
            joined.append(
                Row(
                    label=label,
                    profile=profile,
                    success=SuccessRate(outcomes.count("1"), len(outcomes)),
                    errors=phases.get("errors", {}).get(label, {}).get(profile, {}),
                    tokens=_mean(ran, {name: accounts[name]["mean_visual_tokens"] for name in ran}),
                    macs=_mean(ran, {name: accounts[name]["ratio_to_full"] for name in ran}),
                    step_ms=_mean(ran, {name: times.get((label, name), math.nan) for name in ran}),
                    opening=opening,
                    own_full=own_full if profile != FULL_PROFILE else "",
                    full_share=ran[FULL_PROFILE] / max(1, ran.total()),
                    versus={
                        name: _pairs(found, other)
                        for name, other in others.items()
                        if other and other != found
                    },
                    selection=None if fixed is None or profile == FULL_PROFILE else (p50 - fixed) / p50,
                )
            )
    return joined


def full_steps_of(policy: PolicySpec) -> str:
    """Return which control steps a policy runs ``full`` by its own rules, in words; empty if none.

    Args:
        policy: The bundle's policy.
    """
    rules = [f"first {policy.warmup_steps}"] if policy.warmup_steps else []
    rules += [f"every {policy.refresh_every}"] if policy.refresh_every else []
    rules += ["while slow"] if policy.gate is not None else []
    return ", ".join(rules)


def _ran(cells: Mapping[str, Mapping[str, Any]]) -> Counter[str]:
    """Count the control steps of some cells by the profile that they ran."""
    ran: Counter[str] = Counter()
    for cell in cells.values():
        ran.update(cell["ran"])
    return ran


def _mean(ran: Mapping[str, int], values: Mapping[str, float]) -> float:
    steps = sum(ran.values())
    return sum(count * values[name] for name, count in ran.items()) / steps if steps else math.nan


def _pairs(ours: Mapping[str, Mapping[str, Any]], theirs: Mapping[str, Mapping[str, Any]]) -> Paired:
    """Pair two rows, template by template; a template that one of them lacks does not count."""
    found = [
        paired(cell["outcomes"], theirs[template]["outcomes"])
        for template, cell in ours.items()
        if template in theirs and theirs[template]["first_seed"] == cell["first_seed"]
    ]
    return Paired(
        *(
            sum(getattr(pair, name) for pair in found)
            for name in ("both", "only_first", "only_second", "neither")
        )
    )


def markdown(found: Sequence[Row]) -> str:
    """Return the table in Markdown: a part for each budget and schedule, best success first within it."""
    lines = []
    phases = [phase.value for phase in Phase]
    references = list(dict.fromkeys(name for row in found for name in row.versus))
    versus = "".join(f" less {name} (95 %), p |" for name in references)
    for profile, opening in _groups(found):
        group = [row for row in found if (row.profile, row.opening) == (profile, opening)]
        lines += [
            f"### {_title(profile, opening)}",
            "",
            f"| policy | own full steps | success, % (95 %) |{versus} error, mm | {' | '.join(phases)} "
            "| told seen, % | full steps, % | tokens | MACs, % | ms | choosing, % |",
            "|---|---|--:|" + "--:|" * (len(references) + len(phases) + 7),
        ]
        lines += [_line(row, phases, references) for row in sorted(group, key=lambda row: -row.success.rate)]
        lines.append("")
    return "\n".join(lines)


def summary(found: Sequence[Row]) -> str:
    """Return one line for each policy in Markdown: success by budget and schedule side by side, best at the last first.

    Args:
        found: Rows that :func:`rows` joined.
    """
    groups = [group for group in _groups(found) if group[0] != FULL_PROFILE]
    plain = [group for group in groups if not group[1]] or groups
    by_label: dict[str, dict[tuple[str, int], Row]] = {}
    for row in found:
        if row.profile != FULL_PROFILE:
            by_label.setdefault(row.label, {})[row.profile, row.opening] = row
    complete = [(label, cells) for label, cells in by_label.items() if len(cells) == len(groups)]
    smallest = plain[-1] if plain else ("", 0)
    lines = [
        f"| policy | own full steps | {' | '.join(_share(*group) for group in groups)} | "
        f"tokens, ms at {_share(*smallest)} |",
        "|---|---|" + "--:|" * (len(groups) + 1),
    ]
    for label, cells in sorted(complete, key=lambda item: -item[1][smallest].success.rate):
        success = " | ".join(f"{100 * cells[group].success.rate:.1f}" for group in groups)
        last = cells[smallest]
        cost = f"{last.tokens:.0f}, {_milliseconds(last.step_ms)}"
        lines.append(f"| {label} | {last.own_full or '-'} | {success} | {cost} |")
    return "\n".join([*lines, ""])


def _groups(found: Sequence[Row]) -> list[tuple[str, int]]:
    """Return budgets and schedules: most tokens first, and each without an opening before it with one."""
    return sorted(
        {(row.profile, row.opening) for row in found}, key=lambda group: (-_kept(group[0]), group[1])
    )


def _kept(profile: str) -> float:
    return 100.0 if profile == FULL_PROFILE else float(profile.removeprefix("keep"))


def _share(profile: str, opening: int) -> str:
    return f"{profile.removeprefix('keep')} %" + (f", {opening} full first" if opening else "")


def _title(profile: str, opening: int) -> str:
    schedule = f", the first {opening} control steps full for everyone" if opening else ""
    return "All tokens" if profile == FULL_PROFILE else f"Budget {profile.removeprefix('keep')} %{schedule}"


def _line(row: Row, phases: Sequence[str], references: Sequence[str]) -> str:
    low, high = row.success.interval
    ms = _milliseconds(row.step_ms)
    choosing = "-" if row.selection is None else f"{100 * row.selection:.1f}"
    seen = row.errors.get("seen")
    told = "-" if seen is None else f"{100 * seen['told']:.0f}"
    errors = [_millimetres(row.errors.get(phase)) for phase in ("all", *phases)]
    versus = "".join(f" {_versus(row.versus.get(name))} |" for name in references)
    return (
        f"| {row.label} | {row.own_full or '-'} | {100 * row.success.rate:.1f} ({100 * low:.0f} to {100 * high:.0f}) |"
        f"{versus} {' | '.join(errors)} | {told} | {100 * row.full_share:.0f} | {row.tokens:.0f} | "
        f"{100 * row.macs:.0f} | {ms} | {choosing} |"
    )


def _versus(pairs: Paired | None) -> str:
    """Return difference, interval and p of a row and a reference, in points; a dash for a row and itself."""
    if pairs is None:
        return "-"
    low, high = pairs.interval
    p_value = f"{pairs.p_value:.3f}" if pairs.p_value >= 0.001 else "< 0.001"
    return f"{100 * pairs.difference:+.1f} ({100 * low:+.0f} to {100 * high:+.0f}), {p_value}"


def _milliseconds(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1f}"


def _millimetres(error: Mapping[str, Any] | None) -> str:
    return "-" if error is None else f"{error['mean_mm']:.2f}"
