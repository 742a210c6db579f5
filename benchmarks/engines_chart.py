"""A chart of engines side by side: a panel for each model, a bar for each way and profile, a tick at the roofline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.drawing import legend, svg, text

_WAYS = {
    "eager": ("PyTorch eager", "s3"),
    "compile": ("torch.compile", "s1"),
    "ort-cpu": ("ONNX Runtime", "s0"),
    "openvino": ("OpenVINO", "s2"),
    "ort-cuda": ("ONNX Runtime, CUDA", "s0"),
    "tensorrt": ("TensorRT", "s2"),
    "tensorrt-rtx": ("TensorRT-RTX", "s2"),
}
"""Name and class of the style of each way."""
_LEFT, _WIDTH, _RIGHT = 92, 420, 190
_ROW, _GAP, _TOP = 16, 10, 48


def engines_chart(results: Mapping[str, Any]) -> str:
    """Draw medians of every model, each to its own scale.

    Args:
        results: What ``benchmarks.engines`` wrote.
    """
    there = {cell["way"] for entry in results["models"] for cell in entry["cells"]}
    ways = [way for way in _WAYS if way in there]
    body = [legend([_WAYS[way][0] for way in ways], [_WAYS[way][1] for way in ways], left=12)]
    y = float(_TOP)
    for entry in results["models"]:
        y = _panel(entry, ways, body, y)
    settings = results["settings"]
    told = [f"{results['machine']['cpu']}, {settings['threads']} threads, {results['measured'][:10]}"]
    if settings["is_quick"]:
        told.append("QUICK: times are worth little")
    body.append(
        text(12, y + 6, f"ms, medians; | the least this machine could take; {'; '.join(told)}", "start")
    )
    return svg(
        _LEFT + _WIDTH + _RIGHT, y + 20, "A control step by engine, model and visual tokens kept", body
    )


def _panel(entry: Mapping[str, Any], ways: Sequence[str], body: list[str], y: float) -> float:
    """Draw a model from ``y`` on, and return where it ends."""
    size = f", {entry['size']}, random weights" if entry["has_random_weights"] else ""
    title = f"{entry['model']}{size}, {entry['parameters'] / 1e6:.0f} M"
    body.append(text(12, y, title + (" - BUSY MACHINE" if entry["is_busy"] else ""), "start", "title"))
    body.append(text(12, y + 15, entry["shape"], "start"))
    y += 26
    scale = _WIDTH / max(cell["p50_us"] for cell in entry["cells"])
    for profile in dict.fromkeys(cell["profile"] for cell in entry["cells"]):
        group = {cell["way"]: cell for cell in entry["cells"] if cell["profile"] == profile}
        body.append(text(_LEFT - 12, y + _ROW * len(group) / 2 + 3, profile, "end", "strong"))
        for way in (way for way in ways if way in group):
            cell, limit = group[way], group[way]["limit_us"] * scale
            length = cell["p50_us"] * scale
            body.append(
                f'<rect class="bar {_WAYS[way][1]}" x="{_LEFT}" y="{y:.0f}" width="{length:.1f}" height="{_ROW - 4}"/>'
            )
            body.append(
                f'<line class="axis" x1="{_LEFT + limit:.1f}" x2="{_LEFT + limit:.1f}" y1="{y - 1:.0f}" '
                f'y2="{y + _ROW - 3:.0f}"/>'
            )
            label = (
                f"{cell['p50_us'] / 1e3:.1f}, {cell['share_of_roofline']:.0%}, "
                f"{cell['measured_over_predicted']['median']:.2f} x by MACs"
            )
            body.append(text(_LEFT + length + 6, y + 10, label, "start", "strong"))
            y += _ROW
        y += _GAP
    return y + 14
