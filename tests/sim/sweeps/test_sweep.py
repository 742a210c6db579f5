"""A sweep ends in the same records whatever happened on the way."""

from __future__ import annotations

import json
import multiprocessing
import threading
from pathlib import Path

import pytest

from saccade.proto.errors import SweepError
from saccade.sim.sweeps.block import run_block
from saccade.sim.sweeps.local_workers import LocalWorkers
from saccade.sim.sweeps.sweep import MOST_LOSSES, run_sweep
from tests.sim.sweeps.blocks import blocks_of, text_without_timings


@pytest.mark.slow
def test_losses_and_interruptions_leave_no_trace(bundle: Path, tmp_path: Path) -> None:
    blocks = blocks_of(bundle)
    expected = text_without_timings([json.loads(run_block(block)) for block in blocks])
    told: list[str] = []

    def kill_once(what: str) -> None:
        told.append(what)
        if len(told) == 1:
            for child in multiprocessing.active_children():
                child.kill()

    half = run_sweep(blocks[:3], LocalWorkers(2), tmp_path / "blocks", kill_once)
    assert any("lost, its process is gone; run again (1 of 3)" in what for what in told)
    assert text_without_timings(half) == text_without_timings(json.loads(f"{expected}")[:3])

    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "blocks").iterdir()}
    told.clear()
    whole = run_sweep(blocks, LocalWorkers(1), tmp_path / "blocks", told.append)
    assert told[0] == "3 of 4 blocks are there already" and len(told) == 2
    assert text_without_timings(whole) == expected
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_a_block_that_kills_its_workers_ends_the_sweep(bundle: Path, tmp_path: Path) -> None:
    over = threading.Event()

    def kill() -> None:
        while not over.wait(0.05):
            for child in multiprocessing.active_children():
                child.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    told: list[str] = []
    try:
        with pytest.raises(SweepError, match=rf"found it lost {MOST_LOSSES + 1} times.*process is gone"):
            run_sweep(blocks_of(bundle)[:1], LocalWorkers(1), tmp_path / "blocks", told.append)
    finally:
        over.set()
        killer.join()
    assert len(told) == MOST_LOSSES and not (tmp_path / "blocks").exists()


def test_a_sweep_of_another_version_or_bundle_is_not_resumed(bundle: Path, tmp_path: Path) -> None:
    (block, *_) = blocks_of(bundle)
    run_sweep([block], LocalWorkers(1), tmp_path, lambda what: None)
    (path,) = tmp_path.iterdir()
    record = json.loads(path.read_text())
    for name in ("saccade", "simulator", "bundle"):
        other = {**record, "identity": {**record["identity"], name: "other"}}
        path.write_text(json.dumps(other))
        with pytest.raises(SweepError, match=rf"\({name} other\) in .*to resume it, restore"):
            run_sweep([block], LocalWorkers(1), tmp_path, lambda what: None)
        assert json.loads(path.read_text()) == other


def test_names_tell_blocks_apart(bundle: Path, tmp_path: Path) -> None:
    block = blocks_of(bundle)[0]
    with pytest.raises(SweepError, match=r"found colourful\.reach\.full\.0_0 more than once"):
        run_sweep([block, block], LocalWorkers(1), tmp_path, lambda what: None)
