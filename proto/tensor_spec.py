"""What a tensor looks like before it exists: name, dtype, shape, name of each axis, unit, role."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.proto.errors import TensorError

KEEP_DIM = "keep"
"""Name of the axis whose length is the profile's keep count, written as -1 in a shape."""

_DTYPES = ("bool", "uint8", "int32", "int64", "float16", "float32", "float64")


class TensorRole(str, Enum):
    """Who writes a tensor and how long it lives."""

    HOST = "host"
    """Filled by the host before a control step."""
    TASK = "task"
    """Set by the host once per task and kept over control steps; ones until then."""
    CARRY = "carry"
    """Written by one control step and read by the next; restored by reset."""
    RESULT = "result"
    """Read by the host after a control step."""
    CACHE = "cache"
    """Written by a prompt, then read and written by every further token; gone with the answer."""
    INTERNAL = "internal"
    """Passed between stages of one control step."""


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of a program.

    Args:
        name: Name of the tensor, unique in the bundle, e.g. ``attention_mask``.
        dtype: numpy name of its dtype; one of bool, uint8, int32, int64, float16, float32, float64.
        shape: Length of each axis, batch first. -1 is allowed for the axis ``keep``: its length is
            then the keep count of the profile that runs.
        dims: Name of each axis, e.g. ``("batch", "views", "height", "width", "channels")``.
        unit: Unit of its numbers: ``1`` for plain ones, else SI (``m``, ``rad``) or ``index``, ``token``.
        role: Who writes it and how long it lives.

    Raises:
        TensorError: The specification contradicts itself.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    dims: tuple[str, ...]
    unit: str
    role: TensorRole

    def __post_init__(self) -> None:
        if self.dtype not in _DTYPES:
            raise TensorError(f"tensor {self.name!r}: expected a dtype of {_DTYPES}, found {self.dtype!r}.")
        if len(self.dims) != len(self.shape):
            raise TensorError(
                f"tensor {self.name!r}: expected a name for each of {len(self.shape)} axes, "
                f"found {self.dims}."
            )
        for length, axis in zip(self.shape, self.dims, strict=True):
            if length < 1 and not (length == -1 and axis == KEEP_DIM):
                raise TensorError(
                    f"tensor {self.name!r}: expected axis {axis!r} >= 1 (or -1 for the axis 'keep'), "
                    f"found {length}."
                )

    @property
    def nbytes(self) -> int:
        """Size of the tensor in bytes; the shape must be resolved."""
        return prod(self.shape) * np.dtype(self.dtype).itemsize

    def resolve(self, *, keep: int) -> TensorSpec:
        """Return the specification with -1 replaced by ``keep``."""
        return replace(self, shape=tuple(keep if length == -1 else length for length in self.shape))

    def example(self, *, fill: float = 0) -> NDArray[Any]:
        """Return a legal array, C-contiguous, filled with ``fill``."""
        return np.full(self.shape, fill, dtype=self.dtype)

    def validate(self, array: NDArray[Any]) -> None:
        """Check that ``array`` is what this specification says.

        Raises:
            TensorError: The array has another dtype or shape.
        """
        if array.dtype != self.dtype or array.shape != self.shape:
            raise TensorError(
                f"tensor {self.name!r}: expected {self.dtype}{list(self.shape)} {self.dims}, "
                f"found {array.dtype}{list(array.shape)}."
            )
