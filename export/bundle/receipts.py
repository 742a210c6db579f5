"""The receipts of a bundle: the same names and the same form for every kind of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

FOLDER = "receipts"
PARITY, LINT, EXPORT, ENGINES = "parity", "lint", "export", "tensorrt_rtx"


def write_receipt(bundle: Path, name: str, content: Mapping[str, Any]) -> None:
    """Write ``receipts/NAME.json``; dataclasses become objects, numbers that are not finite are refused.

    Args:
        bundle: Folder of the bundle in the making; its ``receipts/`` exists.
        name: Name of the receipt.
        content: What the receipt says, by key.
    """
    text = json.dumps(plain(content), indent=2, allow_nan=False) + "\n"
    (bundle / FOLDER / f"{name}.json").write_text(text, encoding="utf-8")


def parity_receipt(
    tolerance: object, held: Mapping[str, Any], profiles: Mapping[str, object]
) -> dict[str, Any]:
    """Return what the parity receipt says.

    Args:
        tolerance: Tolerance of the check, a dataclass.
        held: How both sides held the weights, see :func:`saccade.export.bundle.graph_session.memory_of_check`.
        profiles: What was found in each profile, by name.
    """
    return {"tolerance": tolerance, "weights": dict(held), "profiles": dict(profiles)}


def plain(value: Any) -> Any:
    """Return dataclasses as dictionaries, inside mappings too; everything else as it is."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return {key: plain(item) for key, item in value.items()} if isinstance(value, Mapping) else value
