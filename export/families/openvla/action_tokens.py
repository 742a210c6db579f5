"""Action tokens: the last ids of a vocabulary stand for bins of [-1, 1]. NumPy only.

    token id -> bin = end - 1 - id -> centre of the bin, in [-1, 1]

Source:
    OpenVLA (2406.09246), ``OpenVLAForActionPrediction.predict_action``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ActionTokens:
    """The token ids that stand for actions.

    Args:
        end: One more than the highest action token; rows that only pad the embedding table lie from here on.
        edges: Edges of the bins over [-1, 1]; there is one token for each edge, and one bin less.
    """

    end: int
    edges: int = 256

    @property
    def first(self) -> int:
        """The lowest action token; it stands for the highest values."""
        return self.end - self.edges

    @property
    def centres(self) -> NDArray[np.float64]:
        """Centre of each bin, float64 ``(edges - 1,)``, rising."""
        edges = np.linspace(-1.0, 1.0, self.edges)
        return (edges[:-1] + edges[1:]) / 2

    def normalised(self, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """Turn token ids into actions.

        Args:
            ids: int64, any shape. An id that is no action token counts as the nearest that is, and the lowest action
                token as the one above it: there is one bin less than there are tokens.

        Returns:
            Normalised actions, float64, of the shape of ``ids``, in (-1, 1).
        """
        return self.centres[np.clip(self.end - 1 - ids, 0, self.edges - 2)]
