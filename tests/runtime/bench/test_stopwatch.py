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
        every = [spans for name, spans in timing.spans_ns.items() if name != "wake"]
        assert timing.steps == 64 and all(len(spans) == 64 for spans in every)
        assert {"step", "session", "prepare", "finish"} < set(timing.spans_ns)
        assert all(
            step >= inner for step, inner in zip(*map(timing.spans_ns.get, ("step", "session")), strict=True)
        )
        assert timing.quantile_ms(1.0) == max(timing.spans_ns["step"]) / 1e6
        assert timing.hz is not None or timing.late == 0


def test_each_pace_is_timed_awake_too_in_turn(tmp_path: Path) -> None:
    bundle = Bundle.open(write_tiny_bundle(tmp_path / "tiny"))
    order: list[tuple[float | None, int]] = []
    with OrtBackend(threads=1) as backend, Session(ProgramExecutor(bundle, backend)) as session:
        session.reset("pick up the object")
        timings = time_steps(
            session,
            bundle.manifest,
            ["full"],
            [None, 500.0],
            seconds=0.0,
            steps=33,
            spin_ns=100_000,
            on_block=lambda timing: order.append((timing.hz, timing.spin_ns)),
        )
    assert order == [(None, 0)] * 2 + [(500.0, 0), (500.0, 100_000)] * 2
    back_to_back, *paced = timings
    assert "wake" not in back_to_back.spans_ns
    for timing in paced:
        assert len(timing.spans_ns.get("wake", ())) == timing.steps - timing.late
        assert all(late >= 0 for late in timing.spans_ns.get("wake", ()))
