"""Daemons of a robot whose policy reads view scores, with or without something that scores views."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from saccade.runtime.daemon import Daemon, DaemonConfig
from tests.tiny_bundle import GRID, tiny_observation, tiny_step

INSTRUCTION = "red cube"
WORDS = 2


@contextmanager
def serving(robot: Path, scorer: Path | None, **more: Any) -> Iterator[Daemon]:
    config = DaemonConfig(
        robot,
        bind="127.0.0.1:0",
        zmq_bind="127.0.0.1:0",
        threads=1,
        max_age_ns=0,
        max_frozen_frames=0,
        view_scorer=scorer,
        **more,
    )
    with Daemon(config) as daemon:
        yield daemon


def kept_by(session: Any, count: int = 3) -> tuple[list[list[int]], list[dict[str, int]]]:
    kept, timings_ns = [], []
    for seed in range(count):
        chunk = session.act(tiny_observation(seed, sequence=seed + 1, wants_telemetry=True), "keep50")
        kept.append(chunk.telemetry.kept.tolist())
        timings_ns.append(chunk.timings_ns)
    return kept, timings_ns


def expected(scores: Any, count: int = 3) -> list[list[int]]:
    carry, kept = np.zeros(GRID.tokens, np.float32), []
    for seed in range(count):
        _, indices, carry = tiny_step(tiny_observation(seed), carry, 4, WORDS, tuple(scores))
        kept.append(indices.tolist())
    return kept
