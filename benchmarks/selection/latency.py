"""What a control step costs with each policy: every bundle and profile once a round, in one process.

All see the same frame in a round, and take turns in an order drawn anew each time.
"""

from __future__ import annotations

import random
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
        bundles: Folder of each bundle, by label.
        rounds: Number of control steps of each bundle and profile, after the warm-up.
        threads: Threads of the engine.

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
        turns = [(label, profile.name) for label in sessions for profile in manifests[label].profiles]
        order, sequence = random.Random(0), 0  # noqa: S311 - no secret
        for step in range(-_settling(manifests), rounds):
            frame = seen[step % len(seen)]
            for label, profile in order.sample(turns, len(turns)):
                sequence += 1
                observation = Observation(frame.images, frame.proprio, 0, sequence)
                started = time.monotonic_ns()
                chunk = sessions[label].act(observation, profile)
                if step >= 0 and chunk.profile == profile:
                    durations.setdefault((label, profile), []).append(time.monotonic_ns() - started)
    return [
        {"label": label, "profile": profile, **latency_summary(raw)}
        for (label, profile), raw in durations.items()
    ]


def _settling(manifests: Mapping[str, Any]) -> int:
    """Rounds until every session has left its warm-up."""
    return 1 + max(manifest.policy.warmup_steps for manifest in manifests.values())
