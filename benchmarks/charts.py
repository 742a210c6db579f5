"""Charts of the documentation, drawn from ``benchmarks/results/*.json`` and from nothing else.

    python -m benchmarks.charts

Plain SVG that follows the reader's light or dark scheme; no plotting library.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks.drawing import legend, svg, text
from benchmarks.engines_chart import engines_chart
from benchmarks.results_file import RESULTS, read_results
from benchmarks.step_parts_chart import step_parts_chart
from saccade.sim.scoring import SuccessRate

CHARTS = Path(__file__).parent / "charts"
_PANEL_W, _PANEL_H, _GAP = 172, 150, 26
_LEFT, _TOP, _BOTTOM = 48, 62, 44
_SERIES = ("s0", "s1", "s2", "s3")
_WAYS = {"eager": "PyTorch eager", "compile": "torch.compile", "onnxruntime": "ONNX Runtime"}


@click.command()
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS)
@click.option("--out", type=click.Path(path_type=Path), default=CHARTS)
def main(results: Path, out: Path) -> None:
    """Draw every chart whose results are there."""
    out.mkdir(parents=True, exist_ok=True)
    drawings = {
        "closed_loop": success_chart,
        "control_step": control_step_chart,
        "engines": engines_chart,
        "step_parts": step_parts_chart,
    }
    for name, draw in drawings.items():
        found = read_results(results / f"{name}.json")
        if found:
            path = out / f"{name}.svg"
            path.write_text(draw(found), encoding="utf-8")
            click.echo(path)
        else:
            click.echo(f"no {name}.json in {results}: not drawn", err=True)


def success_chart(results: dict[str, Any]) -> str:
    """Draw success over kept tokens: one panel for each task and one for all, one line for each policy."""
    cells = results["cells"]
    policies = list(dict.fromkeys(cell["key"][0] for cell in cells))
    tasks = list(dict.fromkeys(cell["task"] for cell in cells))
    profiles = _profiles(cells)
    body = [legend([*policies, "told another task"], [*_SERIES[: len(policies)], "control"], left=_LEFT)]
    for index, task in enumerate([*tasks, None]):
        body.append(_success_panel(cells, (policies, profiles), task, _LEFT + index * (_PANEL_W + _GAP)))
    note = "profile: share of visual tokens kept"
    body.append(text(_LEFT, _TOP + _PANEL_H + 40, f"{note}; {_caption(results)}", "start"))
    width = _LEFT + (len(tasks) + 1) * (_PANEL_W + _GAP)
    return svg(width, _TOP + _PANEL_H + _BOTTOM + 6, "Success by kept visual tokens", body)


def _success_panel(
    cells: list[dict[str, Any]], series: tuple[list[str], list[str]], task: str | None, left: float
) -> str:
    policies, profiles = series
    parts = [text(left, _TOP - 12, task or "all tasks", "start", "title")]
    for percent in (0, 50, 100):
        y = _TOP + _PANEL_H * (1 - percent / 100)
        parts.append(f'<line class="grid" x1="{left}" x2="{left + _PANEL_W}" y1="{y}" y2="{y}"/>')
        if left == _LEFT:
            parts.append(text(left - 6, y + 4, f"{percent} %", "end"))
    step = _PANEL_W / len(profiles)
    centres = {profile: left + step * (place + 0.5) for place, profile in enumerate(profiles)}
    for profile, x in centres.items():
        parts.append(text(x, _TOP + _PANEL_H + 17, _keep_label(profile), "middle"))
    for index, policy in enumerate([*policies, None]):
        points = []
        for profile in profiles:
            rate = _rate(cells, policy, policies[0], task, profile)
            if rate is not None:
                points.append((centres[profile] + (index - len(policies) / 2) * 5, rate))
        parts.append(_series(points, f"s{index}" if policy else "control"))
    return "".join(parts)


def _rate(
    cells: list[dict[str, Any]], policy: str | None, first: str, task: str | None, profile: str
) -> SuccessRate | None:
    """Pool the cells; ``policy`` None is the control. ``full`` is every policy's, run with the first one."""
    owner = first if policy is None or profile == "full" else policy
    found = [
        cell["outcomes"]
        for cell in cells
        if cell["key"][0] == owner
        and cell["key"][3] == (policy is None)
        and cell["profile"] == profile
        and task in {None, cell["task"]}
    ]
    outcomes = "".join(found)
    return SuccessRate(outcomes.count("1"), len(outcomes)) if outcomes else None


def _series(points: Sequence[tuple[float, SuccessRate]], kind: str) -> str:
    def y(share: float) -> float:
        return _TOP + _PANEL_H * (1 - share)

    path = " ".join(f"{x:.1f},{y(rate.rate):.1f}" for x, rate in points)
    parts = [f'<polyline class="line {kind}" style="fill:none" points="{path}"/>']
    for x, rate in points:
        low, high = rate.interval
        parts.append(
            f'<line class="whisker {kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{y(low):.1f}" y2="{y(high):.1f}"/>'
            f'<circle class="{kind}" cx="{x:.1f}" cy="{y(rate.rate):.1f}" r="3"/>'
        )
    return "".join(parts)


def control_step_chart(results: dict[str, Any]) -> str:
    """Draw median latency of a control step, with a whisker to p99: one group for each profile."""
    cells = results["cells"]
    ways = [way for way in _WAYS if any(cell["way"] == way for cell in cells)]
    kinds = dict(zip(ways, ["s3", "s1", "s0"] if len(ways) == 3 else ["s3", "s0"], strict=True))
    profiles, width, row, label = _profiles(cells), 560, 17, 92
    end_us = max(cell["p99_us"] for cell in cells)
    scale = (width - 70) / end_us
    body, y = [legend([_WAYS[way] for way in ways], list(kinds.values()), left=label)], 54.0
    for profile in profiles:
        group = {cell["way"]: cell for cell in cells if cell["profile"] == profile}
        body.append(text(label - 12, y + row * len(group) / 2 + 3, _keep_label(profile), "end", "strong"))
        for way in ways:
            if way not in group:
                continue
            p50, p99 = group[way]["p50_us"] * scale, group[way]["p99_us"] * scale
            middle = y + row / 2 - 2
            body.append(
                f'<rect class="bar {kinds[way]}" x="{label}" y="{y}" width="{p50:.1f}" height="{row - 4}" rx="2"/>'
            )
            body.append(
                f'<line class="whisker {kinds[way]}" x1="{label + p50:.1f}" x2="{label + p99:.1f}" '
                f'y1="{middle}" y2="{middle}"/>'
            )
            body.append(text(label + p99 + 6, y + 11, f"{group[way]['p50_us'] / 1e3:.1f}", "start", "strong"))
            y += row
        y += 12
    body.append(
        text(
            label,
            y + 10,
            f"ms, median (line: to p99); visual tokens kept at the left; {_caption(results)}",
            "start",
        )
    )
    return svg(label + width, y + 24, "Latency of a control step by kept visual tokens", body)


def _profiles(cells: list[dict[str, Any]]) -> list[str]:
    return list(
        dict.fromkeys(cell["profile"] for cell in sorted(cells, key=lambda cell: -_percent(cell["profile"])))
    )


def _percent(profile: str) -> float:
    return 100.0 if profile == "full" else float(profile.removeprefix("keep"))


def _keep_label(profile: str) -> str:
    return f"{_percent(profile):g} %"


def _caption(results: dict[str, Any]) -> str:
    machine = results["machine"]
    return f"{machine['cpu']}, {machine['cores']} cores, {results['measured'][:10]}"


if __name__ == "__main__":
    main()
