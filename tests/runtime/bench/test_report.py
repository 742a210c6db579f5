"""From durations to figures: quantiles that were measured, means over every step that ran, the share of the limit."""

from __future__ import annotations

from collections import Counter
from io import StringIO

import pytest
from rich.console import Console

from saccade.proto.accounting import Account
from saccade.proto.devices import FP32, Device
from saccade.proto.roofline import Part
from saccade.runtime.bench.report import spin_lines, to_cells, to_table
from saccade.runtime.bench.stopwatch import Timing

DEVICE = Device("here", "this machine", 1e9, {FP32: 1e9}, FP32, "measured")
ACCOUNTS = {
    "full": Account((Part("decoder", macs=4_000_000, weights=1),), (8, 8), 8, 0),
    "keep50": Account((Part("decoder", macs=1_000_000, weights=1),), (8, 4), 8, 0),
}


def timing(profile: str, ran: dict[str, int], hz: float | None = None, late: int = 0) -> Timing:
    count = sum(ran.values())
    step = [1_000_000 * (1 + index) for index in range(count)]
    spans = {"step": step, "stage.step": [ns // 2 for ns in step]}
    return Timing(profile, hz, spans, Counter(ran), late, 1.0)


def test_figures_are_those_of_all_steps_that_ran() -> None:
    """One step in four of the pruned profile was a full one, as on a warm-up."""
    (cell,) = to_cells([timing("keep50", {"full": 25, "keep50": 75})], ACCOUNTS, DEVICE)
    assert (cell["p50_ms"], cell["p90_ms"], cell["p99_ms"], cell["max_ms"]) == (50, 90, 99, 100)
    assert cell["tokens"] == 0.25 * 8 + 0.75 * 6
    assert cell["macs"] == 0.25 * 4e6 + 0.75 * 1e6
    assert cell["limit_ms"] == pytest.approx(2 * cell["macs"] / 1e9 * 1e3)
    assert cell["graphs_p50_ms"] == 25 and cell["share_of_limit"] == pytest.approx(
        cell["limit_ms"] / 25, abs=1e-3
    )


def test_a_bundle_that_does_not_say_what_it_costs_is_timed_all_the_same() -> None:
    (cell,) = to_cells([timing("full", {"full": 4})], {}, DEVICE)
    assert "macs" not in cell and cell["steps"] == 4


def test_the_table_fits_a_terminal() -> None:
    cells = to_cells(
        [timing("full", {"full": 10}), timing("keep50", {"keep50": 10}, hz=20.0, late=3)], ACCOUNTS, DEVICE
    )
    out = StringIO()
    Console(file=out, width=80).print(to_table(cells))
    assert "…" not in out.getvalue()
    assert "30%" in out.getvalue() and "keep50" in out.getvalue()


def test_what_staying_awake_gained_is_said_beside_what_it_costs() -> None:
    asleep, awake = timing("full", {"full": 10}, hz=20.0), timing("full", {"full": 10}, hz=20.0)
    awake.spin_ns = 200_000
    awake.spans_ns["step"] = [ns // 2 for ns in awake.spans_ns["step"]]
    asleep.spans_ns["wake"], awake.spans_ns["wake"] = [80_000] * 10, [1_000] * 10
    alone = timing("keep50", {"keep50": 10})
    cells = to_cells([asleep, awake, alone], ACCOUNTS, DEVICE)
    assert [cell["spin_us"] for cell in cells] == [0, 200, 0]
    assert spin_lines(cells) == [
        "full at 20 Hz, awake for 200 us before each step (0.4% of a core): step 5.00 -> 2.50 ms (p50), step 10.00 -> "
        "5.00 ms (p99), began 80 -> 1 us late (p50), began 80 -> 1 us late (p99)"
    ]
    out = StringIO()
    Console(file=out, width=80).print(to_table(cells))
    assert "20+" in out.getvalue() and "…" not in out.getvalue()
