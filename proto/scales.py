"""Linear maps between physical units and a model's numbers, one for each way in which data sets are normalised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

EPSILON = 1e-8
"""Small number that keeps a dimension that never varied finite: OpenVLA's and lerobot's."""
SCHEME = "scheme"
"""Key of the file that says how a vector is normalised; without it, by quantiles as OpenVLA does."""
MEAN_STD, RANGE = "mean_std", "range"


class Scale(Protocol):
    """The linear map between one vector's physical numbers and the model's."""

    @property
    def bounds(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Least and greatest of the usual physical values, float32 ``(dim,)`` each."""
        ...

    @property
    def physical_per_unit(self) -> NDArray[np.float32]:
        """Physical size of one normalised unit, float32 ``(dim,)``."""
        ...

    @property
    def constant(self) -> NDArray[np.bool_]:
        """Dimensions that never varied in the data set, bool ``(dim,)``: nothing is known of other values."""
        ...

    def normalise(self, physical: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map physical numbers ``(..., dim)`` to the model's."""
        ...

    def unnormalise(self, normalised: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map the model's numbers ``(..., dim)`` back to physical units."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Return what :func:`saccade.proto.statistics.Statistics.read` understands."""
        ...


@dataclass(frozen=True)
class RangeScale:
    """A scale that turns a range into -1..1.

    Args:
        low: float32 ``(dim,)``: the physical value that becomes -1, e.g. the 1st percentile.
        high: float32 ``(dim,)``: the physical value that becomes 1.
        mask: bool ``(dim,)``, True = scaled, False = passed as it is.
        clips: Whether what lies outside -1..1 is clipped on the way in, what the mask passes included, as OpenVLA-OFT's
            ``normalize_proprio`` does; then ``eps`` widens every dimension (OpenVLA). False:
            nothing is clipped, and ``eps`` is the width of a dimension that never varied (lerobot).
        eps: Small number that keeps a dimension that never varied finite, see ``clips``.
    """

    low: NDArray[np.float32]
    high: NDArray[np.float32]
    mask: NDArray[np.bool_]
    clips: bool = True
    eps: float = EPSILON

    @property
    def bounds(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Least and greatest of the usual physical values, float32 ``(dim,)`` each: the range itself."""
        return self.low, self.high

    @property
    def constant(self) -> NDArray[np.bool_]:
        """Dimensions that never varied, bool ``(dim,)``: low and high are one number."""
        never: NDArray[np.bool_] = np.isfinite(self.low) & (self.low == self.high)
        return never

    @property
    def physical_per_unit(self) -> NDArray[np.float32]:
        """Physical size of one normalised unit, float32 ``(dim,)``: half the range; 1 where the mask passes."""
        return np.where(self.mask, 0.5 * self._width, 1.0).astype(np.float32)

    def normalise(self, physical: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map physical numbers ``(..., dim)`` to -1..1."""
        scaled = np.where(self.mask, 2 * (physical - self.low) / self._width - 1, physical)
        return (np.clip(scaled, -1, 1) if self.clips else scaled).astype(np.float32, copy=False)

    def unnormalise(self, normalised: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map the model's numbers ``(..., dim)`` back to physical units."""
        scaled = 0.5 * (normalised + 1) * self._width + self.low
        return np.where(self.mask, scaled, normalised).astype(np.float32, copy=False)

    def to_json(self) -> dict[str, Any]:
        """Return the object of the file."""
        if self.clips:
            return {"q01": self.low.tolist(), "q99": self.high.tolist(), "mask": self.mask.tolist()}
        return {SCHEME: RANGE, "low": self.low.tolist(), "high": self.high.tolist(), "eps": self.eps}

    @property
    def _width(self) -> NDArray[np.float32]:
        if self.clips:
            widened: NDArray[np.float32] = self.high - self.low + np.float32(self.eps)
            return widened
        width: NDArray[np.float32] = np.where(
            self.high == self.low, np.float32(self.eps), self.high - self.low
        )
        return width


@dataclass(frozen=True)
class MeanStdScale:
    """A scale that turns the mean into 0 and one standard deviation into 1; nothing is clipped.

    Args:
        mean: float32 ``(dim,)``: the physical value that becomes 0.
        std: float32 ``(dim,)``: the physical size of one unit.
        eps: Small number added to the divisor on the way in; on the way back ``std`` alone counts (lerobot).
    """

    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    eps: float = EPSILON

    @property
    def bounds(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Least and greatest of the usual physical values, float32 ``(dim,)``: two deviations around the mean."""
        return self.mean - 2 * self.std, self.mean + 2 * self.std

    @property
    def constant(self) -> NDArray[np.bool_]:
        """Dimensions that never varied, bool ``(dim,)``: the deviation is 0."""
        never: NDArray[np.bool_] = self.std == 0
        return never

    @property
    def physical_per_unit(self) -> NDArray[np.float32]:
        """Physical size of one normalised unit, float32 ``(dim,)``: the standard deviation."""
        return self.std

    def normalise(self, physical: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map physical numbers ``(..., dim)`` to standard deviations from the mean."""
        scaled: NDArray[np.float32] = (physical - self.mean) / (self.std + np.float32(self.eps))
        return scaled.astype(np.float32, copy=False)

    def unnormalise(self, normalised: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map the model's numbers ``(..., dim)`` back to physical units."""
        physical: NDArray[np.float32] = normalised * self.std + self.mean
        return physical.astype(np.float32, copy=False)

    def to_json(self) -> dict[str, Any]:
        """Return the object of the file."""
        return {SCHEME: MEAN_STD, "mean": self.mean.tolist(), "std": self.std.tolist(), "eps": self.eps}
