"""What was timed, beside what the profile costs and the least that this machine can take for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table

from saccade.proto.accounting import ACCOUNTING_RECEIPT, Account, accounts_from_json
from saccade.proto.devices import FP32, Device
from saccade.proto.manifest import Manifest
from saccade.proto.profile_names import FULL_PROFILE
from saccade.proto.roofline import PRECISIONS, bounds
from saccade.runtime.bench.stopwatch import WAKE, Timing
from saccade.runtime.bundle import Bundle

_QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
_STAGE = "stage."
_HEADINGS = ("Hz", "p50", "p90", "p99", "max", "late", "speed", "tokens", "GMAC", "share")
_CAPTION = (
    "Milliseconds; Hz - is back to back, + is awake before each step; late: steps that began late; speed against full "
    "in the median; tokens and GMAC: means over all steps; share: of the least time that the graphs can take on this "
    "machine"
)


def read_accounts(bundle: Bundle) -> dict[str, Account]:
    """Return what each profile of a bundle costs, by its name; empty if the bundle does not say.

    Raises:
        BundleIntegrityError: The receipt cannot be read.
    """
    if ACCOUNTING_RECEIPT not in bundle.manifest.files:
        return {}
    return accounts_from_json(json.loads(bundle.read(ACCOUNTING_RECEIPT)), bundle.manifest.grid.tokens)


def shape_line(manifest: Manifest) -> str:
    """Return the shape that a figure is of: views, pixels, tokens, actions."""
    views = ", ".join(f"{view.name} {view.height}x{view.width}" for view in manifest.views)
    return (
        f"{manifest.name}: {views}; {manifest.grid.tokens} visual tokens; "
        f"{manifest.action.chunk} actions of {len(manifest.action.names)} at {manifest.action.control_hz:g} Hz"
    )


def to_cells(timings: list[Timing], accounts: Mapping[str, Account], device: Device) -> list[dict[str, Any]]:
    """Return one entry for each profile and pace, as plain JSON values with all raw durations.

    Args:
        timings: What was measured.
        accounts: What each profile costs; empty = not known.
        device: This machine, as it was measured.
    """
    return [_cell(timing, accounts, device) for timing in timings]


def _cell(timing: Timing, accounts: Mapping[str, Account], device: Device) -> dict[str, Any]:
    cell: dict[str, Any] = {
        "profile": timing.profile,
        "hz": timing.hz,
        "steps": timing.steps,
        "late": timing.late,
        "spin_us": timing.spin_ns / 1e3,
        "ran": dict(timing.ran),
    }
    for name, fraction in _QUANTILES.items():
        cell[f"{name}_ms"] = round(timing.quantile_ms(fraction), 3)
    if WAKE in timing.spans_ns:
        cell |= {
            f"wake_{name}_us": round(1e3 * timing.quantile_ms(fraction, WAKE), 1)
            for name, fraction in _QUANTILES.items()
        }
    if set(timing.ran) <= set(accounts):
        cell |= _limit(timing, accounts, device)
    return cell | {
        "raw_us": {
            name: [round(ns / 1e3, 1) for ns in durations] for name, durations in timing.spans_ns.items()
        }
    }


def _limit(timing: Timing, accounts: Mapping[str, Account], device: Device) -> dict[str, Any]:
    """Return means over all steps that ran, and the share of the roofline that the graphs reached in the median."""
    shares = {name: count / timing.steps for name, count in timing.ran.items()}
    least_ms = {
        name: 1e3 * sum(bound.seconds for bound in bounds(accounts[name].parts, device, PRECISIONS[FP32]))
        for name in shares
    }
    limit_ms = sum(share * least_ms[name] for name, share in shares.items())
    graphs_ms = sum(timing.quantile_ms(0.5, span) for span in timing.spans_ns if span.startswith(_STAGE))
    return {
        "tokens": round(sum(share * accounts[name].mean_visual_tokens for name, share in shares.items()), 1),
        "macs": round(sum(share * accounts[name].macs for name, share in shares.items())),
        "limit_ms": round(limit_ms, 3),
        "graphs_p50_ms": round(graphs_ms, 3),
        "share_of_limit": round(limit_ms / graphs_ms, 3),
    }


def to_table(cells: list[dict[str, Any]]) -> Table:
    """Return the cells for people."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), caption=_CAPTION, caption_justify="left")
    table.add_column("profile", no_wrap=True)
    for heading in _HEADINGS:
        table.add_column(heading, justify="right", no_wrap=True)
    full = {_pace(cell): cell["p50_ms"] for cell in cells if cell["profile"] == FULL_PROFILE}
    for cell in cells:
        known = "macs" in cell
        table.add_row(
            cell["profile"],
            _pace(cell),
            *(f"{cell[f'{name}_ms']:.1f}" for name in _QUANTILES),
            "-" if cell["hz"] is None else f"{cell['late'] / cell['steps']:.0%}",
            f"{full[_pace(cell)] / cell['p50_ms']:.2f}" if _pace(cell) in full else "",
            f"{cell['tokens']:.0f}" if known else "?",
            f"{cell['macs'] / 1e9:.2f}" if known else "?",
            f"{cell['share_of_limit']:.0%}" if known else "?",
        )
    return table


def spin_lines(cells: list[dict[str, Any]]) -> list[str]:
    """Return what staying awake before each step gained, a line for each profile and pace that was timed both ways.

    Args:
        cells: What :func:`to_cells` returned.
    """
    asleep = {(cell["profile"], cell["hz"]): cell for cell in cells if not cell["spin_us"]}
    return [
        _spin_line(asleep[cell["profile"], cell["hz"]], cell)
        for cell in cells
        if cell["spin_us"] and (cell["profile"], cell["hz"]) in asleep
    ]


def _spin_line(asleep: Mapping[str, Any], awake: Mapping[str, Any]) -> str:
    told = [
        f"step {asleep[f'{name}_ms']:.2f} -> {awake[f'{name}_ms']:.2f} ms ({name})" for name in ("p50", "p99")
    ]
    if "wake_p50_us" in asleep and "wake_p50_us" in awake:
        told += [
            f"began {asleep[f'wake_{name}_us']:.0f} -> {awake[f'wake_{name}_us']:.0f} us late ({name})"
            for name in ("p50", "p99")
        ]
    cost = awake["spin_us"] * awake["hz"] / 1e6
    return (
        f"{awake['profile']} at {awake['hz']:g} Hz, awake for {awake['spin_us']:g} us before each step "
        f"({cost:.1%} of a core): {', '.join(told)}"
    )


def _pace(cell: Mapping[str, Any]) -> str:
    return "-" if cell["hz"] is None else f"{cell['hz']:g}" + "+" * bool(cell["spin_us"])
