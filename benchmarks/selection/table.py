"""The table: one row for each policy and budget, from results files and the bundles' own receipts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.selection.contenders import Contender
from saccade.proto.profile_names import FULL_PROFILE
from saccade.sim.scoring import SuccessRate
from saccade.sim.tabletop.phases import Phase


@dataclass(frozen=True)
class Row:
    """One policy at one budget.

    Args:
        label: Label of the contender.
        profile: Name of the bundle's profile.
        success: Success over all tasks.
        errors: Errors that :func:`benchmarks.selection.phases.replay` found; empty for ``full``.
        tokens: Mean visual tokens over the decoder's layers.
        macs: Multiply-accumulates of a control step as a share of the unpruned model's.
        p50_ms: Median latency of a control step, milliseconds.
        selection: Share of the control step that choosing takes; None where nothing has the same cut.
    """

    label: str
    profile: str
    success: SuccessRate
    errors: Mapping[str, Mapping[str, Any]]
    tokens: float
    macs: float
    p50_ms: float
    selection: float | None = None


def rows(
    contenders: Sequence[Contender],
    bundles: Mapping[str, Path],
    loop: Mapping[str, Any],
    phases: Mapping[str, Any],
    latency: Mapping[str, Any],
) -> list[Row]:
    """Join what was measured; a cell that has not been run is left out."""
    times = {
        (entry["label"], entry["profile"]): entry["p50_us"] / 1e3 for entry in latency.get("entries", [])
    }
    joined = []
    for contender in contenders:
        label = contender.label
        accounts = json.loads((bundles[label] / "receipts" / "accounting.json").read_text(encoding="utf-8"))
        for profile, account in accounts.items():
            success = _success(loop, label, profile)
            if success is None:
                continue
            errors = phases.get("errors", {}).get(label, {}).get(profile, {})
            p50 = times.get((label, profile), math.nan)
            fixed = times.get((contender.twin or "", profile))
            joined.append(
                Row(
                    label,
                    profile,
                    success,
                    errors,
                    account["mean_visual_tokens"],
                    account["ratio_to_full"],
                    p50,
                    None if fixed is None or profile == FULL_PROFILE else (p50 - fixed) / p50,
                )
            )
    return joined


def _success(loop: Mapping[str, Any], label: str, profile: str) -> SuccessRate | None:
    outcomes = "".join(
        cell["outcomes"]
        for cell in loop.get("cells", [])
        if cell["key"][0] == label and cell["profile"] == profile and not cell["key"][3]
    )
    return SuccessRate(outcomes.count("1"), len(outcomes)) if outcomes else None


def markdown(found: Sequence[Row]) -> str:
    """Return the table in Markdown, best success first within each budget."""
    lines = []
    profiles = list(dict.fromkeys(row.profile for row in found))
    phases = [phase.value for phase in Phase]
    for profile in profiles:
        lines += [
            f"### {_title(profile)}",
            "",
            f"| policy | success, % (95 %) | error, mm | {' | '.join(phases)} "
            "| told seen, % | tokens | MACs, % | p50, ms | choosing, % |",
            "|---|--:|--:|" + "--:|" * (len(phases) + 5),
        ]
        group = [row for row in found if row.profile == profile]
        lines += [_line(row, phases) for row in sorted(group, key=lambda row: -row.success.rate)]
        lines.append("")
    return "\n".join(lines)


def summary(found: Sequence[Row]) -> str:
    """Return one line for each policy in Markdown, best success at the smallest budget first.

    Args:
        found: Rows that :func:`rows` joined.
    """
    profiles = [name for name in dict.fromkeys(row.profile for row in found) if name != FULL_PROFILE]
    by_label: dict[str, dict[str, Row]] = {}
    for row in found:
        if row.profile != FULL_PROFILE:
            by_label.setdefault(row.label, {})[row.profile] = row
    smallest = profiles[-1] if profiles else ""
    complete = [(label, cells) for label, cells in by_label.items() if len(cells) == len(profiles)]
    lines = [
        f"| policy | {' | '.join(map(_share, profiles))} | p50 at {_share(smallest)}, ms |",
        "|---|" + "--:|" * (len(profiles) + 1),
    ]
    for label, cells in sorted(complete, key=lambda item: -item[1][smallest].success.rate):
        success = " | ".join(f"{100 * cells[name].success.rate:.1f}" for name in profiles)
        lines.append(f"| {label} | {success} | {cells[smallest].p50_ms:.1f} |")
    return "\n".join([*lines, ""])


def _share(profile: str) -> str:
    return f"{profile.removeprefix('keep')} %"


def _title(profile: str) -> str:
    return "All tokens" if profile == FULL_PROFILE else f"Budget {profile.removeprefix('keep')} %"


def _line(row: Row, phases: Sequence[str]) -> str:
    low, high = row.success.interval
    p50 = "-" if math.isnan(row.p50_ms) else f"{row.p50_ms:.1f}"
    choosing = "-" if row.selection is None else f"{100 * row.selection:.1f}"
    seen = row.errors.get("seen")
    told = "-" if seen is None else f"{100 * seen['told']:.0f}"
    errors = [_millimetres(row.errors.get(phase)) for phase in ("all", *phases)]
    return (
        f"| {row.label} | {100 * row.success.rate:.1f} ({100 * low:.0f} to {100 * high:.0f}) | "
        f"{' | '.join(errors)} | {told} | {row.tokens:.0f} | {100 * row.macs:.0f} | {p50} | {choosing} |"
    )


def _millimetres(error: Mapping[str, Any] | None) -> str:
    return "-" if error is None else f"{error['mean_mm']:.2f}"
