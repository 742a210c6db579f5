"""A robot's state as text, for models that read it in their prompt.

Source:
    π0.5: openpi 15a9616, ``PaligemmaTokenizer.tokenize``; lerobot 0.6.1's ``Pi05PrepareStateTokenizerProcessorStep``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from saccade.proto.errors import ProprioError


def state_text(state: NDArray[np.floating], bins: int) -> str:
    """Return the bin of each number, a space between them.

    Args:
        state: float ``(dim,)``, normalised, as many numbers as the robot has: not padded.
        bins: How many bins of equal width there are over -1..1.

    Raises:
        ProprioError: The state is not one row of finite numbers.
    """
    return " ".join(str(number) for number in state_bins(state, bins))


def state_bins(state: NDArray[np.floating], bins: int) -> tuple[int, ...]:
    """Return the bin of each number: 0 to ``bins - 1``, and -1 below -1, which the models were trained with.

    Args:
        state: float ``(dim,)``, normalised.
        bins: How many bins of equal width there are over -1..1.

    Raises:
        ProprioError: The state is not one row of finite numbers.
    """
    if state.ndim != 1 or not np.isfinite(state).all():
        raise ProprioError(
            f"expected a state of one row of finite numbers, found shape {state.shape} and "
            f"{int((~np.isfinite(state)).sum())} numbers that are not finite; check the robot's sensors."
        )
    edges = np.linspace(-1.0, 1.0, bins + 1)[:-1]
    return tuple(int(place) for place in np.digitize(state, edges) - 1)
