"""A bundle for the tabletop and an in-process connection to it, shared by all tests of a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from saccade.sim.connection import Connection, connect
from tests.sim.tabletop_bundle import write_tabletop_bundle


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be changed by a test."""
    return write_tabletop_bundle(tmp_path_factory.mktemp("bundles") / "colourful")


@pytest.fixture(scope="session")
def in_process(bundle: Path) -> Iterator[Connection]:
    """Every episode begins with a reset, so tests may share it."""
    with connect(bundle, transport="in-process", threads=1) as connection:
        yield connection
