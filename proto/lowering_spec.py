"""The lowerings of a bundle: its graphs in other forms, for a kind of engine each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

CANONICAL = "cpu-fp32"
"""Name of the graphs that every bundle has: as they were exported, in float32."""


@dataclass(frozen=True)
class LoweringSpec:
    """A bundle's graphs, rewritten for a kind of engine.

    Args:
        name: Name of the lowering, e.g. ``cpu-int8``.
        graphs: Path of the rewritten graph by that of the canonical one; each of them has one.
        settings: What was done and how: passes, bits, budget, frames; for people.
    """

    name: str
    graphs: dict[str, str]
    settings: dict[str, Any] = field(default_factory=dict)
