"""A latency histogram as inline SVG: one outline for each profile, no library, colours from the page's style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from saccade.sim.scoring import quantile_ns

_WIDTH, _HEIGHT = 720, 230
_LEFT, _RIGHT, _BOTTOM = 12, 12, 34
_LABEL_ROW = 17
_BINS = 44
_TICKS = 10
_TAIL = 0.995
"""Quantile at which the axis ends; slower steps are counted in the last bin."""


def latency_histogram(latencies_ns: Mapping[str, Sequence[int]]) -> str:
    """Draw the distribution of control-step latencies.

    Args:
        latencies_ns: Latencies of each profile, nanoseconds; the n-th profile gets the class ``series-n``.

    Returns:
        An ``<svg>`` element; empty if nothing was measured.
    """
    measured = {name: np.asarray(values) / 1e6 for name, values in latencies_ns.items() if len(values)}
    if not measured:
        return ""
    end_ms = max(float(np.quantile(values, _TAIL)) for values in measured.values()) * 1.06
    edges = np.linspace(0, end_ms, _BINS + 1)
    shares = {
        name: np.histogram(np.minimum(values, end_ms * 0.9999), edges)[0] / len(values)
        for name, values in measured.items()
    }
    top = max(float(share.max()) for share in shares.values())
    ceiling = _LABEL_ROW * len(measured) + 8
    body = [_axis(end_ms)]
    for index, (name, share) in enumerate(shares.items()):
        p50_ms = quantile_ns(latencies_ns[name], 0.5) / 1e6
        body.append(_outline(share / top, ceiling, index))
        body.append(_marker(f"{name} p50 {p50_ms:.1f} ms", p50_ms / end_ms, index))
    return (
        f'<svg class="histogram" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="Histogram of control-step latency by profile">{"".join(body)}</svg>'
    )


def _x(fraction: float) -> float:
    return _LEFT + fraction * (_WIDTH - _LEFT - _RIGHT)


def _y(fraction: float, ceiling: float = 0) -> float:
    return _HEIGHT - _BOTTOM - fraction * (_HEIGHT - ceiling - _BOTTOM)


def _outline(heights: np.ndarray, ceiling: float, index: int) -> str:
    points = [f"{_x(0):.1f},{_y(0):.1f}"]
    for place, height in enumerate(heights):
        points += [f"{_x(edge / _BINS):.1f},{_y(height, ceiling):.1f}" for edge in (place, place + 1)]
    points.append(f"{_x(1):.1f},{_y(0):.1f}")
    return f'<polygon class="series-{index}" points="{" ".join(points)}"/>'


def _marker(label: str, fraction: float, index: int) -> str:
    x, y = _x(fraction), _LABEL_ROW * (index + 1)
    anchor, shift = ("end", -6) if fraction > 0.75 else ("start", 6)
    return (
        f'<line class="median-{index}" x1="{x:.1f}" x2="{x:.1f}" y1="{_y(0):.1f}" y2="{y - 11:.1f}"/>'
        f'<text class="label-{index}" x="{x + shift:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(label)}</text>'
    )


def _axis(end_ms: float) -> str:
    decade = 10.0 ** np.floor(np.log10(end_ms / _TICKS))
    step = next(decade * size for size in (1, 2, 5, 10, 20) if end_ms / (decade * size) <= _TICKS)
    ticks = np.arange(0, end_ms, step)
    parts = [f'<line class="axis" x1="{_x(0)}" x2="{_x(1)}" y1="{_y(0)}" y2="{_y(0)}"/>']
    for tick in ticks:
        x = _x(float(tick) / end_ms)
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{_y(0)}" y2="{_y(0) + 4}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{_y(0) + 18}" text-anchor="middle">{tick:g}</text>')
    parts.append(
        f'<text class="tick" x="{_x(1)}" y="{_HEIGHT - 2}" text-anchor="end">ms per control step</text>'
    )
    return "".join(parts)
