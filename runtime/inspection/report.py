"""An inspection for people, in tables, and for machines, as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from saccade.proto.devices import Device
from saccade.proto.inspection import Budget, Inspection
from saccade.proto.roofline import Bound, Part, Precision, part_bytes
from saccade.proto.strict_json import to_json
from saccade.runtime.inspection.verdict import Verdict, three_figures


def as_json(inspection: Inspection, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Return everything, FLOPs, bytes and seconds unrounded."""
    content: dict[str, Any] = to_json(inspection)
    content["devices"] = [_device_json(inspection.budgets, verdict) for verdict in verdicts]
    return content


def show(
    inspection: Inspection, verdicts: Sequence[Verdict], console: Console, *, tells_sources: bool
) -> None:
    """Print everything for a person.

    Args:
        inspection: What was found.
        verdicts: Of the machines that were asked for.
        console: Where to.
        tells_sources: Say where each machine's numbers come from.
    """
    console.print(f"[bold]{inspection.name}[/] - {inspection.kind}, family {inspection.family}")
    facts = dict(inspection.facts)
    if inspection.parameters:
        counts = ", ".join(f"{_words(name)} {_short(n)}" for name, n in inspection.parameters.items())
        facts["weights"] = f"{_short(sum(inspection.parameters.values()))} parameters: {counts}"
    for name, fact in facts.items():
        console.print(f"  {name:<9} {fact}", markup=False, highlight=False, soft_wrap=True)
    if inspection.budgets:
        _show_costs(inspection, verdicts, console)
    if any(verdict.bounds for verdict in verdicts):
        _show_times(inspection.budgets, verdicts, console)
    for verdict in verdicts:
        _line(console, f"{verdict.device.label}, {_dtype(verdict)}", verdict.sentence)
        if tells_sources:
            _line(console, "  its numbers", f"{_peaks(verdict.device)}. Source: {verdict.device.source}.")
    if inspection.policies:
        _show_policies(inspection, console)
    for note in inspection.notes:
        console.print(note, markup=False, highlight=False, soft_wrap=True)


def _show_costs(inspection: Inspection, verdicts: Sequence[Verdict], console: Console) -> None:
    """FLOPs and bytes of every part at every budget."""
    like = next((verdict for verdict in verdicts if verdict.bounds), None)
    stored = "" if like is None else f", and bytes read with weights in {_dtype(like)}"
    table = _table(f"One {inspection.unit}: FLOPs{stored}", "part", "passes")
    for budget in inspection.budgets:
        table.add_column(f"{budget.name}\n{budget.keep} tokens", justify="right")
    for rows in zip(*(budget.parts for budget in inspection.budgets), strict=True):
        cells = (_cost((part,), like) for part in rows)
        table.add_row(_words(rows[0].name), str(rows[0].passes), *cells)
    table.add_section()
    table.add_row("all", "", *(_cost(budget.parts, like) for budget in inspection.budgets))
    console.print(table)


def _show_times(budgets: Sequence[Budget], verdicts: Sequence[Verdict], console: Console) -> None:
    """Whole steps at every budget, then the parts of the largest and the smallest."""
    able = [verdict for verdict in verdicts if verdict.bounds]
    table = _table("Least time by the roofline, ms", "device", "dtype")
    for name in (*(budget.name for budget in budgets), "speed-up"):
        table.add_column(name, justify="right")
    for verdict in able:
        times = (three_figures(1e3 * seconds) for seconds in verdict.seconds)
        table.add_row(verdict.device.name, _dtype(verdict), *times, f"{verdict.speedup:.2f}x")
    console.print(table)
    for number in sorted({0, len(budgets) - 1}):
        title = f"Its parts at {budgets[number].name}, ms: C = compute-bound, B = bandwidth-bound"
        table = _table(title, "device", "dtype")
        for part in budgets[number].parts:
            table.add_column(_words(part.name), justify="right")
        for verdict in able:
            table.add_row(verdict.device.name, _dtype(verdict), *map(_time, verdict.bounds[number]))
        console.print(table)


def _show_policies(inspection: Inspection, console: Console) -> None:
    table = _table("Token-selection policies, default options", "policy")
    table.add_column("drops visual tokens")
    for fit in inspection.policies:
        table.add_row(fit.name, ", ".join(fit.acts) if fit.acts else f"[dim]does not fit: {fit.reason}[/]")
    console.print(table)


def _line(console: Console, subject: str, text: str) -> None:
    console.print(f"{subject}: {text}", markup=False, highlight=False, soft_wrap=True)


def _table(title: str, *names: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for name in names:
        table.add_column(name, no_wrap=True)
    return table


def _time(bound: Bound) -> str:
    return f"{three_figures(1e3 * bound.seconds)} {'C' if bound.is_compute_bound else 'B'}"


def _cost(parts: Sequence[Part], like: Verdict | None) -> str:
    flops = f"{_short(sum(2 * part.macs for part in parts))}FLOP"
    if like is None:
        return flops
    return f"{flops}\n{_short(sum(part_bytes(part, like.device, like.precision) for part in parts))}B"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _dtype(verdict: Verdict) -> str:
    precision: Precision = verdict.precision
    if precision.arithmetic is None and precision.weight_bytes is None:
        return verdict.device.float_type
    return precision.name


def _peaks(device: Device) -> str:
    peaks = ", ".join(
        f"{name} {three_figures(peak / 1e12)} {'TFLOP/s' if name != 'int8' else 'TOP/s'}"
        for name, peak in device.peaks.items()
    )
    return f"{peaks}; {three_figures(device.bandwidth / 1e9)} GB/s"


def _short(value: float) -> str:
    """Return a number in three figures with M, G or T."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{three_figures(value / size)} {unit}"
    return f"{value:.0f} "


def _device_json(budgets: Sequence[Budget], verdict: Verdict) -> dict[str, Any]:
    device = verdict.device
    return {
        "name": device.name,
        "label": device.label,
        "dtype": _dtype(verdict),
        "bandwidth_bytes_per_s": device.bandwidth,
        "peak_flop_per_s": dict(device.peaks),
        "source": device.source,
        "budgets": [_budget_json(*pair) for pair in zip(budgets, verdict.bounds, strict=False)],
        "speedup": verdict.speedup,
        "pays": verdict.pays,
        "verdict": verdict.sentence,
    }


def _budget_json(budget: Budget, each: Sequence[Bound]) -> dict[str, Any]:
    return {
        "name": budget.name,
        "seconds": sum(bound.seconds for bound in each),
        "parts": [
            {
                "name": bound.part,
                "flops": bound.flops,
                "bytes": bound.bytes,
                "compute_s": bound.compute_s,
                "memory_s": bound.memory_s,
                "limit": "compute" if bound.is_compute_bound else "bandwidth",
            }
            for bound in each
        ],
    }
