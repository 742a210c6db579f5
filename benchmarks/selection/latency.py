"""What a control step costs with each policy: every bundle and profile in turn, round after round, in one process."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.frames import recorded_observations
from benchmarks.results_file import latency_summary
from saccade.runtime.bundle import Bundle
from saccade.runtime.engines.ort import OrtBackend
from saccade.runtime.observation import Observation
from saccade.runtime.program import ProgramExecutor
from saccade.runtime.session import Session


def measure_latencies(bundles: Mapping[str, Path], *, rounds: int, threads: int) -> list[dict[str, Any]]:
    """Time ``act`` of an in-process session for every bundle and profile.

    Args:
        bundles: Label to bundle.
        rounds: Control steps of each, after the warm-up.
        threads: Of the engine.

    Returns:
        One entry for each bundle and profile: label, profile, p50, p99 and all raw durations.
    """
    with OrtBackend(threads=threads) as backend:
        sessions = {
            label: Session(ProgramExecutor(Bundle.open(path), backend)) for label, path in bundles.items()
        }
        manifests = {label: Bundle.open(path).manifest for label, path in bundles.items()}
        told, seen = recorded_observations(16, image_px=next(iter(manifests.values())).views[0].height)
        for session in sessions.values():
            session.reset(told)
        durations: dict[tuple[str, str], list[int]] = {}
        sequence = 0
        for step in range(-_settling(manifests), rounds):
            for label, session in sessions.items():
                for profile in manifests[label].profiles:
                    sequence += 1
                    frame = seen[sequence % len(seen)]
                    observation = Observation(frame.images, frame.proprio, 0, sequence)
                    started = time.monotonic_ns()
                    chunk = session.act(observation, profile.name)
                    if step >= 0 and chunk.profile == profile.name:
                        durations.setdefault((label, profile.name), []).append(time.monotonic_ns() - started)
    return [
        {"label": label, "profile": profile, **latency_summary(raw)}
        for (label, profile), raw in durations.items()
    ]


def _settling(manifests: Mapping[str, Any]) -> int:
    """Rounds until every session has left its warm-up."""
    return 1 + max(manifest.policy.warmup_steps for manifest in manifests.values())
