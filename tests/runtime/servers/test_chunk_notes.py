"""What is strange about a chunk is counted, and logged once a second."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from saccade.runtime.observation import ActionChunk
from saccade.runtime.servers.chunk_notes import ChunkNotes
from saccade.runtime.servers.counters import Counters
from saccade.runtime.servers.limited_log import LimitedLog


def chunk(**changes: object) -> ActionChunk:
    found = ActionChunk(np.zeros((1, 2), np.float32), "full", 3, 1, 0, **changes)  # type: ignore[arg-type]
    found.timings_ns["total"] = 1_000_000
    return found


def test_a_chunk_is_counted_and_what_is_strange_is_said(caplog: pytest.LogCaptureFixture) -> None:
    counters = Counters()
    notes = ChunkNotes(counters, LimitedLog(logging.getLogger("daemon")))
    notes.note(chunk())
    assert caplog.messages == []
    for _ in range(2):
        notes.note(chunk(far_proprio=("x",), limited=("dx", "dy")))
    notes.note_sleep(0)
    notes.note_sleep(2_500_000_000)
    found = counters.snapshot()
    counted = {
        name: found[name] for name in ("chunks", "proprio.far", "limited", "limited.dx", "clock.suspended")
    }
    assert counted == {"chunks": 3, "proprio.far": 2, "limited": 2, "limited.dx": 2, "clock.suspended": 1}
    assert len(caplog.messages) == 3 and caplog.messages[2] == "the machine slept for 2.5 s"
    assert caplog.messages[1] == "moved a chunk to follow on: dx, dy"
