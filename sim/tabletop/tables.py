"""Every table there is, by name."""

from __future__ import annotations

from saccade.proto.errors import SimulatorError
from saccade.sim.tabletop import shapes
from saccade.sim.tabletop.table import Table

TABLES: dict[str, Table] = {table.name: table for table in (shapes.TABLE,)}

BUNDLED = shapes.TABLE
"""The table that the bundled model plays on."""


def table_named(name: str) -> Table:
    """Return a table.

    Raises:
        SimulatorError: There is none of that name.
    """
    if name not in TABLES:
        raise SimulatorError(f"expected a table out of {', '.join(TABLES)}, found {name!r}.")
    return TABLES[name]
