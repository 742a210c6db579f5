"""A sweep: every block that has no record yet is run by some worker; lost ones again."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from saccade.proto.errors import SweepError
from saccade.sim.sweeps.block import Block
from saccade.sim.sweeps.block_files import BlockFiles, check_equal
from saccade.sim.sweeps.identity import identity
from saccade.sim.sweeps.workers import Lost, Workers

MOST_LOSSES = 3
"""How often a block may be lost before the sweep gives up: a node that dies is chance, a block that kills is not."""


def run_sweep(
    blocks: Sequence[Block], workers: Workers, folder: Path, tell: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Run the blocks that have no record yet.

    Args:
        blocks: Blocks, each named once.
        workers: Who runs them; not yet entered, and only entered if something is to be run.
        folder: Folder for the records; another run of the same sweep goes on from there.
        tell: Told what happens, in words.

    Returns:
        Record of each block, in the order of the blocks, whoever ran it and whenever it ended.

    Raises:
        SweepError: A record or a worker is of another version, or a block was lost too often.
        SaccadeError: What a block raised; the records of those before it stay.
    """
    files = BlockFiles(folder)
    known = {path: identity(path) for path in {block.path for block in blocks}}
    records = {block.name: files.read(block, known[block.path]) for block in blocks}
    if len(records) != len(blocks):
        twice = [name for name, times in Counter(block.name for block in blocks).items() if times > 1]
        raise SweepError(f"expected blocks of different names, found {', '.join(twice)} more than once.")
    todo = deque(block for block in blocks if records[block.name] is None)
    if len(todo) < len(blocks):
        tell(f"{len(blocks) - len(todo)} of {len(blocks)} blocks are there already")
    if todo:
        with workers:
            _run(todo, workers, known, lambda block, record: _keep(files, records, block, record, tell), tell)
    return [record for record in records.values() if record is not None]


def _run(
    todo: deque[Block],
    workers: Workers,
    known: Mapping[Path, Mapping[str, str]],
    keep: Callable[[Block, dict[str, Any]], None],
    tell: Callable[[str], None],
) -> None:
    losses: Counter[str] = Counter()
    running = 0
    while todo or running:
        while todo and running < workers.room():
            workers.start(todo.popleft())
            running += 1
        block, outcome = workers.wait()
        running -= 1
        if isinstance(outcome, Lost):
            losses[block.name] += 1
            if losses[block.name] > MOST_LOSSES:
                raise SweepError(
                    f"expected a worker to finish block {block.name}, found it lost {losses[block.name]} times, last "
                    f"because {outcome.reason}: look at memory and logs there; the same command goes on from here."
                )
            tell(f"{block.name}: lost, {outcome.reason}; run again ({losses[block.name]} of {MOST_LOSSES})")
            todo.append(block)
            continue
        record = json.loads(outcome)
        where = f"from the worker of {block.name}"
        check_equal(record["identity"], known[block.path], where, "install the same versions on every node")
        keep(block, record)


def _keep(
    files: BlockFiles,
    records: dict[str, dict[str, Any] | None],
    block: Block,
    record: dict[str, Any],
    tell: Callable[[str], None],
) -> None:
    files.write(block, record)
    records[block.name] = record
    done = sum(found is not None for found in records.values())
    solved = sum(episode["is_success"] for episode in record["episodes"])
    tell(f"{done} of {len(records)}: {block.name}, {solved} of {len(record['episodes'])} solved")
