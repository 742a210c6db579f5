"""Success against latency: one point for each policy and budget, the frontier drawn through the best."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.drawing import legend, svg, text
from benchmarks.selection.table import Row
from saccade.proto.profile_names import FULL_PROFILE

_LEFT, _TOP, _WIDTH, _HEIGHT = 56, 68, 560, 300
_NAME_WIDTH, _LINE = 130, 13
_KINDS = {"vla_pruner": "s0", "todre": "s1", "vflowopt": "s2", "quota": "s3"}


def pareto_chart(rows: Sequence[Row], caption: str) -> str:
    """Draw success against latency as SVG.

    Args:
        rows: Rows of :func:`benchmarks.selection.table.rows`; those without a latency or with an opening are left out.
        caption: Machine and date, shown below.
    """
    timed = [row for row in rows if row.step_ms == row.step_ms and not row.opening]
    slow, fast = max(row.step_ms for row in timed), min(row.step_ms for row in timed)
    low = min(row.success.rate for row in timed)

    def x(row: Row) -> float:
        return _LEFT + _WIDTH * (row.step_ms - fast) / max(slow - fast, 1e-9)

    def y(rate: float) -> float:
        return _TOP + _HEIGHT * (1 - (rate - low) / max(1 - low, 1e-9))

    body = [
        text(
            _LEFT, 20, "Success against latency of a control step, every policy and budget", "start", "title"
        ),
        legend([*_KINDS, "others"], [*_KINDS.values(), "control"], left=_LEFT, y=40),
    ]
    for percent in range(0, 101, 20):
        if percent / 100 >= low:
            level = y(percent / 100)
            body.append(
                f'<line class="grid" x1="{_LEFT}" x2="{_LEFT + _WIDTH}" y1="{level:.1f}" y2="{level:.1f}"/>'
            )
            body.append(text(_LEFT - 6, level + 4, f"{percent} %", "end"))
    frontier = _frontier(timed)
    points = " ".join(f"{x(row):.1f},{y(row.success.rate):.1f}" for row in frontier)
    body.append(f'<polyline class="axis line" points="{points}"/>')
    for row in timed:
        kind = _KINDS.get(row.label, "control")
        upper, lower = row.success.interval[1], row.success.interval[0]
        whisker = f'y1="{y(upper):.1f}" y2="{y(lower):.1f}"'
        body.append(f'<line class="{kind} whisker" x1="{x(row):.1f}" x2="{x(row):.1f}" {whisker}/>')
        body.append(f'<circle class="{kind}" cx="{x(row):.1f}" cy="{y(row.success.rate):.1f}" r="3.5"/>')
    taken: list[tuple[float, float]] = []
    for row in frontier:
        name = (
            "all tokens"
            if row.profile == FULL_PROFILE
            else f"{row.label} {row.profile.removeprefix('keep')} %"
        )
        place = _free_place(x(row) + 6, y(row.success.rate) - 6, taken)
        body.append(text(*place, name, "start", "strong"))
    below = _TOP + _HEIGHT + 18
    body.append(text(_LEFT, below, f"{fast:.1f} ms a control step, mean of all that ran", "start"))
    body.append(text(_LEFT + _WIDTH, below, f"{slow:.1f} ms", "end"))
    body.append(text(_LEFT, below + 18, f"whiskers: 95 % Wilson interval; {caption}", "start"))
    return svg(_LEFT + _WIDTH + 130, below + 28, "Success against latency of every policy", body)


def _free_place(x: float, y: float, taken: list[tuple[float, float]]) -> tuple[float, float]:
    """Return a place for a name that no other name covers, as near below as there is one; it is taken then."""
    while any(abs(x - other) < _NAME_WIDTH and abs(y - line) < _LINE for other, line in taken):
        y += _LINE
    taken.append((x, y))
    return x, y


def _frontier(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that no other row beats in both success and latency, fastest first."""
    best: list[Row] = []
    for row in sorted(rows, key=lambda row: (row.step_ms, -row.success.rate)):
        if not best or row.success.rate > best[-1].success.rate:
            best.append(row)
    return best
