"""An inspection for people, in tables, and for machines, as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from saccade.proto.devices import Device
from saccade.proto.inspection import Budget, CutPlace, Inspection
from saccade.proto.roofline import Bound, Part, Precision, part_bytes
from saccade.runtime.inspection.verdict import Verdict, three_figures


def as_json(inspection: Inspection, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Return an inspection as JSON values; FLOPs, bytes and seconds are not rounded.

    Args:
        inspection: What was found out about the model.
        verdicts: What the roofline says of each machine that was asked for.
    """
    content: dict[str, Any] = asdict(inspection)
    content["devices"] = [_device_json(inspection.budgets, verdict) for verdict in verdicts]
    return content


def show(
    inspection: Inspection, verdicts: Sequence[Verdict], console: Console, *, tells_sources: bool
) -> None:
    """Print an inspection for a person, as tables and sentences.

    Args:
        inspection: What was found out about the model.
        verdicts: What the roofline says of each machine that was asked for.
        console: Where to print.
        tells_sources: Whether to say where each machine's numbers come from.
    """
    _show_facts(inspection, console)
    if inspection.budgets:
        _show_costs(inspection, verdicts, console)
    if any(verdict.bounds for verdict in verdicts):
        _show_times(inspection.budgets, verdicts, console)
    if verdicts:
        _title(console, "Does pruning pay?")
    for verdict in verdicts:
        _line(console, f"{verdict.device.label}, {_dtype(verdict)}: {verdict.sentence}")
        if tells_sources:
            _line(console, f"  its numbers: {_peaks(verdict.device)}. Source: {verdict.device.source}.")
    if inspection.policies:
        _show_policies(inspection, console)
    for number, note in enumerate(inspection.notes):
        _line(console, f"\n{note}" if number == 0 else note)


def _show_facts(inspection: Inspection, console: Console) -> None:
    name = escape(inspection.name)
    console.print(
        f"[bold]{name}[/] - {inspection.kind}, family {inspection.family}", highlight=False, soft_wrap=True
    )
    facts = dict(inspection.facts)
    if inspection.parameters:
        counts = ", ".join(f"{_spelled(part)} {_count(n)}" for part, n in inspection.parameters.items())
        facts["weights"] = f"{_count(sum(inspection.parameters.values()))} parameters: {counts}"
    for label, fact in facts.items():
        _line(console, f"  {label:<9} {fact}")


def _show_costs(inspection: Inspection, verdicts: Sequence[Verdict], console: Console) -> None:
    """FLOPs and bytes of every part at every budget."""
    like = next((verdict for verdict in verdicts if verdict.bounds), None)
    stored = "" if like is None else f", and bytes read with weights in {_dtype(like)}"
    _title(console, f"One {inspection.unit}: FLOPs{stored}")
    table = _table("part", "passes")
    for budget in inspection.budgets:
        table.add_column(f"{budget.name}\n{budget.keep} tokens", justify="right")
    for rows in zip(*(budget.parts for budget in inspection.budgets), strict=True):
        cells = (_cost((part,), like) for part in rows)
        table.add_row(_spelled(rows[0].name), str(rows[0].passes), *cells)
    table.add_section()
    table.add_row("all", "", *(_cost(budget.parts, like) for budget in inspection.budgets))
    console.print(table)


def _show_times(budgets: Sequence[Budget], verdicts: Sequence[Verdict], console: Console) -> None:
    """Whole steps at every budget, then the parts of the largest and the smallest."""
    able = [verdict for verdict in verdicts if verdict.bounds]
    _title(console, "Least time by the roofline, ms; launches, activations and preprocessing are left out")
    table = _table("device", "dtype")
    for name in (*(budget.name for budget in budgets), "speed-up"):
        table.add_column(name, justify="right")
    for verdict in able:
        times = (three_figures(1e3 * seconds) for seconds in verdict.seconds)
        speedup = f"{verdict.speedup:.2f}x" if verdict.speedup else "-"
        table.add_row(verdict.device.name, _dtype(verdict), *times, speedup)
    console.print(table)
    for number in sorted({0, len(budgets) - 1}):
        _title(console, f"Its parts at {budgets[number].name}, ms: C = compute-bound, B = bandwidth-bound")
        table = _table("device", "dtype")
        for part in budgets[number].parts:
            table.add_column(_spelled(part.name), justify="right")
        for verdict in able:
            table.add_row(verdict.device.name, _dtype(verdict), *map(_time, verdict.bounds[number]))
        console.print(table)


def _show_policies(inspection: Inspection, console: Console) -> None:
    _title(console, "Token-selection policies, and where they drop visual tokens")
    table = _table("policy")
    table.add_column("before")
    for fit in inspection.policies:
        table.add_row(fit.name, escape(_places(fit.acts) if fit.fits else f"does not fit: {fit.reason}"))
    console.print(table)


def _places(cuts: Sequence[CutPlace]) -> str:
    """Return ``decoder layers 2, 6, 15``, say."""
    names = {"tower": "tower block", "projector": "the projector", "decoder": "decoder layer"}
    found = []
    for place, together in groupby(cuts, key=lambda cut: cut.place):
        numbers = [str(cut.index) for cut in together if cut.index is not None]
        found.append(" ".join((names[place] + "s" * (len(numbers) > 1), ", ".join(numbers))).strip())
    return "; ".join(found) or "nothing: it keeps every token"


def _line(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _title(console: Console, text: str) -> None:
    console.print(f"\n[bold]{escape(text)}[/]", highlight=False, soft_wrap=True)


def _table(*names: str) -> Table:
    table = Table()
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


def _spelled(name: str) -> str:
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


def _count(value: int) -> str:
    """Return a number of parameters."""
    return _short(value).replace("G", "B").rstrip()


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
