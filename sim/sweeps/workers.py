"""What a sweep asks of whoever runs its blocks: processes of this machine, or a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from saccade.proto.errors import SaccadeError
from saccade.sim.sweeps.block import Block


@dataclass(frozen=True)
class Lost:
    """A block came to nothing because whoever ran it is gone; the block itself may be fine.

    Args:
        reason: How that was noticed, in words.
    """

    reason: str


class Workers(Protocol):
    """Runs blocks side by side; a context manager."""

    def room(self) -> int:
        """Return how many blocks may be started before one has to end; at least 1."""
        ...

    def start(self, block: Block) -> None:
        """Hand out a block; it is run when a worker is free."""
        ...

    def wait(self) -> tuple[Block, str | Lost]:
        """Wait for a block that was started, and return its record as JSON, or that it was lost.

        Raises:
            SaccadeError: The block failed; the message names it.
        """
        ...

    def __enter__(self) -> Workers:
        """Begin."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End; blocks that were not waited for are given up."""
        ...


def failed(block: Block, error: SaccadeError) -> SaccadeError:
    """Return the error of a block as one that names it.

    Args:
        block: Block that failed.
        error: What it raised.
    """
    return type(error)(f"block {block.name}: {error.message}")
