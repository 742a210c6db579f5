"""What ``saccade lower`` is asked for, what a lowering comes to, and what came out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir

from saccade.export.quantisation.judgement import Judgement
from saccade.export.quantisation.rounding import ROUNDINGS, RSQ
from saccade.proto.errors import ExportError
from saccade.proto.manifest import Manifest

DEFAULT_BUDGET = 0.01
DEFAULT_BLOCK = 32

Apply = Callable[[str, ir.Model], None]
"""Rewrites one graph of the bundle, told by its path there, in place."""


@dataclass(frozen=True, kw_only=True)
class LowerRequest:
    """How a bundle is lowered.

    Args:
        bundle: Folder of the bundle.
        out: Folder that the bundle with its lowerings is written to.
        lowerings: Names of the lowerings.
        frames: Recorded frames (.npz).
        budget: Largest root mean square error of any action dimension that int8 may make, as a share of its range.
        block: Inputs of a weight that share a scale, for int4 and int3.
        rounding: How weights of int4 and int3 are rounded: ``nearest``, ``gptq``, or ``rsq``.
        rotate: Rotate the residual stream before weights are rounded to int4 or int3.
        overwrite: Replace a bundle at ``out``.

    Raises:
        ExportError: The budget is not above 0, nobody knows the rounding, or nothing is rounded that could be rotated.
    """

    bundle: Path
    out: Path
    lowerings: tuple[str, ...]
    frames: Path
    budget: float = DEFAULT_BUDGET
    block: int = DEFAULT_BLOCK
    rounding: str = RSQ
    rotate: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.budget <= 1:
            raise ExportError(f"expected a budget above 0 and at most 1, found {self.budget:g}.")
        if self.rounding not in ROUNDINGS:
            raise ExportError(f"expected a rounding of {', '.join(ROUNDINGS)}, found {self.rounding!r}.")
        if self.rotate and not {"int4", "int3"} & set(self.lowerings):
            raise ExportError(
                f"expected int4 or int3 among the lowerings to rotate, found {', '.join(self.lowerings) or 'none'}: "
                "leave --rotate out."
            )


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


@dataclass(frozen=True)
class LowerReport:
    """What was written.

    Args:
        manifest: Manifest of the new bundle.
        judgements: How far each lowering is from the canonical graphs on held-out frames, by its name and by profile.
        seconds: Wall time of each part of the work, seconds.
    """

    manifest: Manifest
    judgements: Mapping[str, Mapping[str, Judgement]]
    seconds: Mapping[str, float]
