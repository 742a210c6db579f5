"""An error of a block says which, and stays the error that it is."""

from __future__ import annotations

from pathlib import Path

from saccade.proto.errors import UnknownTaskError
from saccade.sim.sweeps.block import Block
from saccade.sim.sweeps.workers import failed


def test_an_error_names_its_block() -> None:
    block = Block(bundle="one", path=Path("x"), template="fly", profile="full", seeds=range(2))
    error = failed(block, UnknownTaskError("no such task"))
    assert isinstance(error, UnknownTaskError) and error.message == "block one.fly.full.0_1: no such task"
