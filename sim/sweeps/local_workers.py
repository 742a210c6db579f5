"""Blocks in processes of this machine, each with a process of its own, so that a lost one takes no other with it."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from types import TracebackType

from saccade.proto.errors import SaccadeError, SweepError
from saccade.sim.sweeps.block import Block, run_block
from saccade.sim.sweeps.workers import Lost, failed


class LocalWorkers:
    """Runs blocks in processes of this machine; a context manager.

    Args:
        jobs: Number of blocks that run side by side.

    Raises:
        SweepError: ``jobs`` is below 1.
    """

    def __init__(self, jobs: int) -> None:
        if jobs < 1:
            raise SweepError(f"expected at least 1 job, found {jobs}.")
        self._idle = [_executor() for _ in range(jobs)]
        self._running: dict[Future[str], tuple[Block, ProcessPoolExecutor]] = {}

    def room(self) -> int:
        """Return how many processes there are."""
        return len(self._idle) + len(self._running)

    def start(self, block: Block) -> None:
        """Run a block in a process that is idle; there must be one."""
        executor = self._idle.pop()
        try:
            future = executor.submit(run_block, block)
        except BrokenProcessPool:  # its process died idle
            executor.shutdown()
            executor = _executor()
            future = executor.submit(run_block, block)
        self._running[future] = block, executor

    def wait(self) -> tuple[Block, str | Lost]:
        """Wait for the next block to end; see :meth:`saccade.sim.sweeps.workers.Workers.wait`."""
        future = wait(self._running, return_when=FIRST_COMPLETED).done.pop()
        block, executor = self._running.pop(future)
        try:
            record = future.result()
        except BrokenProcessPool:
            executor.shutdown()
            self._idle.append(_executor())
            return block, Lost("its process is gone")
        except SaccadeError as error:
            self._idle.append(executor)
            raise failed(block, error) from error
        self._idle.append(executor)
        return block, record

    def __enter__(self) -> LocalWorkers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for executor in (*self._idle, *(executor for _, executor in self._running.values())):
            executor.shutdown(cancel_futures=True)


def _executor() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"))  # GL contexts do not survive a fork
