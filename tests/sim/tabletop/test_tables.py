"""Tables by name."""

from __future__ import annotations

import pytest

from saccade.proto.errors import SimulatorError
from saccade.sim.tabletop.tables import BUNDLED, TABLES, table_named


def test_a_table_is_known_by_its_name_and_by_its_data_set() -> None:
    assert [table_named(name).name for name in TABLES] == list(TABLES)
    assert len({table.data_set for table in TABLES.values()}) == len(TABLES)
    assert BUNDLED in TABLES.values()


def test_an_unknown_table_is_refused() -> None:
    with pytest.raises(SimulatorError, match="out of shapes, found 'kitchen'"):
        table_named("kitchen")
