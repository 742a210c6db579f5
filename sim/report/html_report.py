"""The report of an evaluation: one HTML file that needs nothing else."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from io import BytesIO
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from saccade.proto.manifest import GridSpec, Manifest
from saccade.proto.profile_names import FULL_PROFILE
from saccade.runtime.observation import Telemetry
from saccade.runtime.provenance import machine, versions
from saccade.sim.claim import Claim
from saccade.sim.evaluation import ALL_TASKS, Results
from saccade.sim.recorder import Clip
from saccade.sim.report.latency_chart import latency_histogram
from saccade.sim.report.overlay import token_layer
from saccade.sim.scoring import Score, step_latencies_ns

_WEBP_QUALITY = 84
_VIEW_PX = 360
_TIME_NOTES = {
    True: "The simulated world runs on while the model thinks: a slow answer comes late.",
    False: "The simulated world waits while the model thinks.",
}
"""What is said of time, by whether it is live."""
_COLUMNS = (
    "task",
    "profile",
    "success",
    "",
    "95 % interval",
    "step p50 ms",
    "p99 ms",
    "visual tokens",
    "clamped",
    "refused",
)


@dataclass(frozen=True)
class Report:
    """What a report is made of.

    Args:
        manifest: Manifest of the bundle.
        engine: Name of what executed its graphs.
        transport: How the client reached the daemon.
        results: Everything that was run.
        clips: The episode to show for each template.
        claim: The pruned profile against the full one; None if only one profile was run.
    """

    manifest: Manifest
    engine: str
    transport: str
    results: Results
    clips: Mapping[str, Clip]
    claim: Claim | None = None

    @property
    def pruned(self) -> str:
        """Name of the profile with the fewest visual tokens."""
        return min(self.results.plan.profiles, key=lambda name: self.manifest.profile(name).keep)


def render_report(report: Report) -> str:
    """Return the report as one HTML document without any reference to the outside."""
    plan, manifest = report.results.plan, report.manifest
    latencies_ns = {name: step_latencies_ns(report.results.of(name)) for name in plan.profiles}
    headline, lead = _headline(report)
    return Template(_part("page.html")).substitute(
        name=escape(manifest.name),
        style=_part("page.css"),
        script=_part("page.js"),
        headline=headline,
        lead=lead,
        figures=_figures(report),
        clips="".join(_clip_figure(clip) for clip in report.clips.values()),
        clips_data=_clips_data(report),
        warmup_note=_warmup_note(manifest),
        table=_score_table(report),
        seeds=f"seeds {plan.seeds.start} to {plan.seeds.stop - 1}",
        histogram=latency_histogram(latencies_ns),
        parts=_parts_table(report),
        time_note=_TIME_NOTES[plan.live is not None],
        execute=str(plan.execute),
        tokens=f"{manifest.grid.tokens} ({manifest.grid.views} × {manifest.grid.rows} × {manifest.grid.columns})",
        provenance=_provenance(report),
    )


def _part(name: str) -> str:
    return (files("saccade.sim") / "report" / name).read_text(encoding="utf-8")


def _headline(report: Report) -> tuple[str, str]:
    manifest, pruned = report.manifest, report.results.pooled(report.pruned)
    tokens = manifest.grid.tokens
    if report.claim is not None:
        headline = escape(report.claim.sentence())
    else:
        headline = (
            f"{pruned.success.successes} of {pruned.success.episodes} episodes solved, "
            f"looking at {pruned.visual_tokens:.0f} of {tokens} patches"
        )
    lead = f"{escape(manifest.name)} drives a simulated arm through the daemon; the policy is {manifest.policy.name}. "
    return headline, lead + _TIME_NOTES[report.results.plan.live is not None]


def _figures(report: Report) -> str:
    results = report.results
    pruned, full = results.pooled(report.pruned), results.pooled(results.plan.profiles[0])
    low, high = pruned.success.interval
    cells = (
        (
            "Success",
            f"{pruned.success.rate:.0%}",
            f"{low:.0%} to {high:.0%} · {full.profile} {full.success.rate:.0%}",
        ),
        ("Control step, median", f"{pruned.p50_ns / 1e6:.1f} <small>ms</small>", _against(full, full.p50_ns)),
        ("Control step, p99", f"{pruned.p99_ns / 1e6:.1f} <small>ms</small>", _against(full, full.p99_ns)),
        ("Visual tokens, mean", f"{pruned.visual_tokens:.0f}", f"{full.profile} {full.visual_tokens:.0f}"),
    )
    return "".join(
        f'<div class="figure"><div class="name">{name}</div><div class="value">{value}</div>'
        f'<div class="against">{against}</div></div>'
        for name, value, against in cells
    )


def _against(score_: Score, latency_ns: int) -> str:
    return f"{escape(score_.profile)} {latency_ns / 1e6:.1f} ms"


def _warmup_note(manifest: Manifest) -> str:
    steps = manifest.policy.warmup_steps
    looks = "look" if steps == 1 else f"{steps} looks"
    notes = [f"The first {looks} of an episode warm the policy up and see everything."] if steps else []
    if manifest.policy.gate is not None:
        notes.append("While the arm is slow, the motion gate lets every look see everything.")
    return " ".join(notes)


def _clip_figure(clip: Clip) -> str:
    solved = clip.episode.is_success
    return f"""
<figure class="clip">
  <canvas role="img" aria-label="Scene and wrist camera, kept patches clear"></canvas>
  <figcaption>
    <div class="said"><q>{escape(clip.episode.instruction)}</q>
      <span class="outcome{" solved" if solved else ""}">{"solved" if solved else "not solved"}</span></div>
    <div class="status"><span class="profile"></span><span class="kept"></span><span class="step"></span>
      <span class="clock"></span></div>
    <div class="controls"><button class="play" type="button">Pause</button>
      <input class="seek" type="range" min="0" value="0" aria-label="Look">
      <button class="shade" type="button" aria-pressed="true">Show tokens</button></div>
  </figcaption>
</figure>"""


def _clips_data(report: Report) -> str:
    grid = report.manifest.grid
    data = {
        "tokens": grid.tokens,
        "view_px": _VIEW_PX,
        "views": [view.name for view in report.manifest.views],
        "control_hz": report.manifest.action.control_hz,
        "execute": report.results.plan.execute,
        "clips": [_clip_data(clip, grid) for clip in report.clips.values()],
    }
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def _clip_data(clip: Clip, grid: GridSpec) -> dict[str, Any]:
    """Frames, and layers to lay over them; a layer is empty where every token was kept or nothing is known."""
    return {
        "frames": [_webp(np.concatenate(list(views), axis=1)) for views in clip.frames],
        "layers": [_layers(telemetry, grid) for telemetry in clip.telemetry],
        "kept": [None if telemetry is None else len(telemetry.kept) for telemetry in clip.telemetry],
        "profiles": clip.profiles,
        "env_steps": clip.env_steps,
        "poster": len(clip.frames) // 2,
    }


def _layers(telemetry: Telemetry | None, grid: GridSpec) -> str:
    if telemetry is None or len(telemetry.kept) == grid.tokens:
        return ""
    layers = [
        token_layer(telemetry.fate, grid, view, height=_VIEW_PX, width=_VIEW_PX) for view in range(grid.views)
    ]
    return _webp(np.concatenate(layers, axis=1), lossless=True)


def _webp(pixels: NDArray[np.uint8], *, lossless: bool = False) -> str:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=_WEBP_QUALITY, method=6, lossless=lossless)
    return f"data:image/webp;base64,{b64encode(buffer.getvalue()).decode()}"


def _score_table(report: Report) -> str:
    head = "".join(
        f'<th class="{"text" if index < 2 else ""}">{name}</th>' for index, name in enumerate(_COLUMNS)
    )
    rows: list[str] = []
    previous = ""
    for row in report.results.scores():
        kind = f"{'first ' if row.template != previous else ''}{'total' if row.template == ALL_TASKS else ''}"
        rows.append(f'<tr class="{kind}">{_score_cells(row, row.template != previous)}</tr>')
        previous = row.template
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _score_cells(row: Score, is_first: bool) -> str:
    low, high = row.success.interval
    bar = (
        f'<span class="bar{"" if row.profile == FULL_PROFILE else " pruned"}">'
        f'<i style="width:{row.success.rate:.1%}"></i>'
        f'<b style="left:{low:.1%};width:{high - low:.1%}"></b></span>'
    )
    numbers = (
        f"{row.success.successes}/{row.success.episodes}",
        bar,
        f"{low:.0%} to {high:.0%}",
        f"{row.p50_ns / 1e6:.1f}",
        f"{row.p99_ns / 1e6:.1f}",
        f"{row.visual_tokens:.0f}",
        str(row.clamped),
        str(row.refused),
    )
    texts = (row.template if is_first else "", row.profile)
    return "".join(f'<td class="text">{escape(text)}</td>' for text in texts) + "".join(
        f'<td class="{"dim" if index == 2 else ""}">{number}</td>' for index, number in enumerate(numbers)
    )


def _parts_table(report: Report) -> str:
    """Medians of each part of a control step, over all that were answered, one column for each profile."""
    profiles = report.results.plan.profiles
    columns = {name: _part_medians(report, name) for name in profiles}
    names = list(dict.fromkeys(part for medians in columns.values() for part in medians))
    head = "<th>part</th>" + "".join(f"<th>{escape(name)}</th>" for name in profiles)
    rows = [
        f"<tr><td>{escape(part)}</td>"
        + "".join(f"<td>{columns[name].get(part, 0.0):.2f}</td>" for name in profiles)
        + "</tr>"
        for part in names
    ]
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _part_medians(report: Report, profile: str) -> dict[str, float]:
    steps = [
        step
        for episode in report.results.of(profile)
        for step in episode.control_steps
        if not step.is_refused
    ]
    parts: dict[str, list[int]] = {}
    for step in steps:
        timings_ns = step.timings_ns
        daemon_ns = timings_ns.get("total", timings_ns.get("session", 0))
        for name, value in timings_ns.items():
            if name.startswith("stage."):
                parts.setdefault(f"graph: {name.removeprefix('stage.')}", []).append(value)
        parts.setdefault("images and proprioception in", []).append(timings_ns.get("prepare", 0))
        parts.setdefault("un-normalise, limit", []).append(timings_ns.get("finish", 0))
        parts.setdefault("wire, client and process switch", []).append(step.latency_ns - daemon_ns)
        parts.setdefault("all, seen by the client", []).append(step.latency_ns)
    return {name: float(np.median(values)) / 1e6 for name, values in parts.items()}


def _provenance(report: Report) -> str:
    where, manifest = machine(), report.manifest
    facts = {
        "bundle": f"{manifest.name}, family {manifest.family}, created {manifest.created}",
        "policy": f"{manifest.policy.name} {json.dumps(manifest.policy.config)}",
        "path": f"simulator → client → {report.transport} → daemon → {report.engine}",
        "machine": f"{where['cpu']}, {where['cores']} cores, {where['architecture']} {where['system']}",
        "versions": ", ".join(f"{name} {version}" for name, version in versions().items()),
        "episodes": f"{len(report.results.plan.seeds)} for each task and profile",
    }
    return "".join(f"<dt>{name}</dt><dd>{escape(fact)}</dd>" for name, fact in facts.items())
