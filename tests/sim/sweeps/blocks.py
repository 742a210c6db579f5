"""Blocks of the bundle that lowers the arm: short work, the same every time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from saccade.sim.sweeps.block import Block


def blocks_of(bundle: Path, *, templates: tuple[str, ...] = ("reach",), seeds: int = 2) -> list[Block]:
    """One seed a block, with every token and with a quarter."""
    wholes = [
        Block(
            bundle="colourful", path=bundle, template=template, profile=profile, seeds=range(seeds), execute=8
        )
        for template in templates
        for profile in ("full", "keep25")
    ]
    return [block for whole in wholes for block in whole.cut(1)]


def text_without_timings(records: list[dict[str, Any]]) -> str:
    """What must be the same byte for byte, whoever ran what and when."""
    return json.dumps([{name: value for name, value in r.items() if name != "timings"} for r in records])
