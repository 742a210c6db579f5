"""Turns forwards and backwards, and the figures that are made of them."""

from __future__ import annotations

import time

import pytest

from benchmarks.engines.rounds import TARGET, Key, Turns, take_turns, to_cells, verdicts
from saccade.proto.accounting import Account
from saccade.proto.devices import FP32, Device
from saccade.proto.roofline import DECODER, Part

MACHINE = Device("here", "this machine", 1e9, {FP32: 1e9}, FP32, "measured")
ACCOUNTS = {
    "full": Account((Part(DECODER, macs=4_000_000, weights=1000),), (8, 8), 8, 0),
    "keep50": Account((Part(DECODER, macs=1_000_000, weights=1000),), (8, 4), 8, 0),
}


def test_turns_go_forwards_and_backwards() -> None:
    ran: list[str] = []
    turns = take_turns(
        {key: lambda index, key=key: ran.append(f"{key}{index}") for key in "abc"},
        rounds=2,
        block=2,
        settle=1,
    )
    assert "".join(ran) == "a0a1a2b0b1b2c0c1c2c0c1c2b0b1b2a0a1a2"
    assert {key: [len(block) for block in blocks] for key, blocks in turns.rounds.items()} == {
        "a": [2, 2],
        "b": [2, 2],
        "c": [2, 2],
    }
    assert len(turns.all_ns("a")) == 4


def test_ratios_are_those_of_one_round_each() -> None:
    """A slow second round slows both, and the ratio stays."""
    turns = Turns({"eager": [[20, 20, 22], [80, 80, 80]], "ort": [[10, 10, 10], [40, 40, 44]]})
    assert turns.ratios("eager", "ort") == [2.0, 2.0]


def ms(*medians: float) -> list[list[int]]:
    return [[round(median * 1e6)] * 3 for median in medians]


def test_a_cell_has_its_share_of_the_roofline_and_what_macs_predict() -> None:
    turns: Turns[Key] = Turns({
        ("full", "eager"): ms(40, 40), ("full", "ort-cpu"): ms(16, 32),
        ("keep50", "eager"): ms(20, 20), ("keep50", "ort-cpu"): ms(4, 9.2),
    })  # fmt: skip
    cells = to_cells(turns, ACCOUNTS, MACHINE, base="eager", shape="two views")
    found = {(cell["profile"], cell["way"]): cell for cell in cells}
    full, half = found["full", "ort-cpu"], found["keep50", "ort-cpu"]
    assert full["limit_us"] == 8000 and full["shape"] == "two views" and full["read_bytes"] == 4000
    assert full["share_of_roofline"] == pytest.approx(8 / 16, abs=0.17), (
        "p50 over both rounds is one of theirs"
    )
    assert full["times_faster_than_eager"] == {"median": 1.875, "low": 1.25, "high": 2.5}
    assert full["measured_over_predicted"]["median"] == 1
    assert half["measured_over_predicted"] == {"median": 1.075, "low": 1.0, "high": 1.15}
    assert len(half["raw_us"]) == 6 and half["round_p50_us"] == [4000, 9200]
    assert verdicts("oft", cells) == [
        {
            "model": "oft", "profile": "keep50", "way": "eager", "measured_over_predicted": 2.0, "target": TARGET,
            "is_within": False,
        },
        {
            "model": "oft", "profile": "keep50", "way": "ort-cpu", "measured_over_predicted": 1.075, "target": TARGET,
            "is_within": True,
        },
    ]  # fmt: skip


def test_what_is_timed_is_the_step() -> None:
    turns = take_turns({"slow": lambda index: time.sleep(0.002)}, rounds=1, block=2, settle=0)
    assert all(duration >= 2_000_000 for duration in turns.all_ns("slow"))
