"""Processes of this machine: one that is killed costs its own block and no other."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest

from saccade.proto.errors import SweepError, UnknownTaskError
from saccade.sim.sweeps.local_workers import LocalWorkers
from saccade.sim.sweeps.workers import Lost
from tests.sim.sweeps.blocks import blocks_of


def test_a_killed_process_loses_its_block_and_no_other(bundle: Path) -> None:
    first, second, third = blocks_of(bundle)[:3]
    with LocalWorkers(2) as workers:
        assert workers.room() == 2
        workers.start(first)
        (victim,) = multiprocessing.active_children()
        workers.start(second)
        victim.kill()
        ended = dict([workers.wait(), workers.wait()])
        assert isinstance(ended[first], Lost)
        assert json.loads(str(ended[second]))["settings"] == second.settings
        for idle in multiprocessing.active_children():
            idle.kill()
            idle.join()
        todo, found = [first, third], set()
        while todo:
            workers.start(todo.pop())
            block, outcome = workers.wait()
            if isinstance(outcome, Lost):  # a process that died idle, noticed only now
                todo.append(block)
            else:
                found.add(block)
    assert found == {first, third}


def test_an_error_ends_it_and_says_where(bundle: Path) -> None:
    (block,) = blocks_of(bundle, templates=("fly",))[:1]
    with LocalWorkers(1) as workers:
        workers.start(block)
        with pytest.raises(UnknownTaskError, match=r"block colourful\.fly\.full\.0_0: expected tasks"):
            workers.wait()


def test_somebody_has_to_work() -> None:
    with pytest.raises(SweepError, match="at least 1 job, found 0"):
        LocalWorkers(0)
