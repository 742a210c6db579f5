"""Notices proprioception that is nothing like what the model was trained on: degrees for radians, mm for m.

The model would be given it all the same, clipped or as it is, and would move the arm by it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from saccade.proto.errors import ProprioError
from saccade.proto.scales import Scale

FAR = 3.0
"""Half-widths of the usual range that a number may be from its middle: one whole range beyond either end."""


class FarProprio:
    """Names the numbers that are far outside the statistics.

    A dimension that never varied has no range to be far from; export and ``saccade inspect`` name it.

    Args:
        scale: Scale of proprioception.
        names: Names of its numbers.
        is_refused: Whether such an observation is refused; False = only named.
    """

    def __init__(self, scale: Scale, names: tuple[str, ...], *, is_refused: bool = False) -> None:
        low, high = (bound.astype(np.float64) for bound in scale.bounds)
        self._names = names
        self._is_refused = is_refused
        self._known = np.isfinite(low) & np.isfinite(high) & ~scale.constant
        self._low, self._high = np.where(self._known, low, 0.0), np.where(self._known, high, 0.0)

    def find(self, proprio: NDArray[np.float32]) -> tuple[str, ...]:
        """Return the names of the numbers that are far outside.

        Args:
            proprio: float ``(dim,)``, finite, in physical units.

        Raises:
            ProprioError: There is one, and it is to be refused.
        """
        middle, half = (self._low + self._high) / 2, (self._high - self._low) / 2
        far = np.flatnonzero(self._known & (np.abs(proprio - middle) > FAR * half))
        if far.size and self._is_refused:
            worst = far[0]
            raise ProprioError(
                f"expected proprioception like that of the data set, found {self._names[worst]!r} = "
                f"{proprio[worst]:.4g} where {self._low[worst]:.4g} to {self._high[worst]:.4g} is usual: check the "
                "units (degrees for radians?), or serve without --refuse-far-proprio."
            )
        return tuple(self._names[index] for index in far)
