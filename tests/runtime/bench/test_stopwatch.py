"""Which steps are counted, and under what."""

from __future__ import annotations

from pathlib import Path

from saccade.runtime.bench.stopwatch import time_steps
from saccade.runtime.bundle import Bundle
from saccade.runtime.engines.ort import OrtBackend
from saccade.runtime.program import ProgramExecutor
from saccade.runtime.session import Session
from tests.tiny_bundle import write_tiny_bundle


def test_profiles_take_turns_until_each_has_its_steps(tmp_path: Path) -> None:
    bundle = Bundle.open(write_tiny_bundle(tmp_path / "tiny"))
    order: list[tuple[str, float | None]] = []
    with OrtBackend(threads=1) as backend, Session(ProgramExecutor(bundle, backend)) as session:
        session.reset("pick up the object")
        timings = time_steps(
            session,
            bundle.manifest,
            ["full", "keep50"],
            [None, 2000.0],
            seconds=0.0,
            steps=40,
            on_block=lambda timing: order.append((timing.profile, timing.hz)),
        )
    assert order == [(profile, hz) for hz in (None, 2000.0) for profile in ("full", "keep50") * 2]
    for timing in timings:
        assert timing.steps == 64 and all(len(spans) == 64 for spans in timing.spans_ns.values())
        assert {"step", "session", "prepare", "finish"} < set(timing.spans_ns)
        assert all(
            step >= inner for step, inner in zip(*map(timing.spans_ns.get, ("step", "session")), strict=True)
        )
        assert timing.quantile_ms(1.0) == max(timing.spans_ns["step"]) / 1e6
        assert timing.hz is not None or timing.late == 0
