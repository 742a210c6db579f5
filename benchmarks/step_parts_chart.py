"""A chart of where a control step's time goes: a bar for each profile, and below it what the MACs predict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.drawing import legend, svg, text
from benchmarks.node_parts import PARTS

_KINDS = dict(zip(PARTS, ("s1", "s3", "s0", "s2", "control"), strict=True))
"""Class of the style of each part."""
_LEFT, _WIDTH, _RIGHT = 92, 470, 150
_ROW, _GAP, _TOP = 17, 12, 44


def step_parts_chart(results: Mapping[str, Any]) -> str:
    """Draw medians of the run with the most threads.

    Args:
        results: What ``benchmarks.step_parts`` wrote.
    """
    threads = max(cell["threads"] for cell in results["cells"])
    cells = [cell for cell in results["cells"] if cell["threads"] == threads]
    scale = _WIDTH / max(max(cell["step"]["p50_us"], cell["predicted_us"]) for cell in cells)
    body, y = [legend(PARTS, list(_KINDS.values()), left=12)], float(_TOP)
    for cell in cells:
        body.append(text(_LEFT - 12, y + _ROW + 2, cell["profile"], "end", "strong"))
        shares = {part: cell["parts"][part]["share"] for part in PARTS}
        macs = {part: cell["parts"][part]["macs"] for part in PARTS}
        label = f"{cell['step']['p50_us'] / 1e3:.1f} ms"
        body += _bar(shares, cell["step"]["p50_us"] * scale, y, label)
        label = f"MACs predict {cell['predicted_us'] / 1e3:.1f}, {cell['measured_over_predicted']:.2f} x that"
        body += _bar(macs, cell["predicted_us"] * scale, y + _ROW, label, opacity=0.45)
        y += 2 * _ROW + _GAP
    machine = results["machine"]
    note = (
        f"medians, {threads} thread{'s' * (threads > 1)}; pale: the full step's time, shared out by MACs; "
        f"{machine['cpu']}, {results['measured'][:10]}"
    )
    body.append(text(12, y + 10, note, "start"))
    return svg(_LEFT + _WIDTH + _RIGHT, y + 24, "Where a control step's time goes, by profile", body)


def _bar(
    parts: Mapping[str, float], length: float, y: float, label: str, *, opacity: float = 1.0
) -> Sequence[str]:
    """Draw a bar of a length in pixels, shared out among the parts, with words behind it."""
    drawn, x, whole = [], float(_LEFT), sum(parts.values())
    for part, amount in parts.items():
        width = length * amount / whole
        drawn.append(
            f'<rect class="bar {_KINDS[part]}" x="{x:.1f}" y="{y:.0f}" width="{width:.1f}" height="{_ROW - 4}" '
            f'opacity="{opacity:g}"/>'
        )
        x += width
    return [*drawn, text(x + 6, y + 11, label, "start", "strong" if opacity == 1 else "")]
