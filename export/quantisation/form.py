"""What a lowering comes to: how each graph is rewritten, and what the manifest says of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir

Apply = Callable[[str, ir.Model], None]
"""Rewrites one graph of the bundle, told by its path there, in place."""


@dataclass(frozen=True)
class Form:
    """A lowering that is ready to be written.

    Args:
        settings: What was done and how, for the manifest.
        apply: Rewrites the graphs.
        source: Folder that has the graphs to rewrite under their paths in the bundle; None = the canonical ones.
    """

    settings: dict[str, Any]
    apply: Apply
    source: Path | None = None
