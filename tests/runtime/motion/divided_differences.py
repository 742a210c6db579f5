"""Velocity, acceleration and jerk of samples by Lagrange's formula, in extended precision: the oracle of the limits."""

from __future__ import annotations

from math import factorial
from typing import Any

import numpy as np
from numpy.typing import NDArray


def difference(order: int, places: NDArray[Any], steps_s: NDArray[Any]) -> NDArray[Any]:
    """``order! [t0, ..., t_order]``: sum over i of x_i / prod_{j != i} (t_i - t_j), for every window of samples.

    Args:
        order: 1, 2 or 3.
        places: ``(samples, ...)``.
        steps_s: ``(samples - 1,)``: seconds between them.
    """
    x = places.astype(np.longdouble)
    t = np.concatenate([[0], np.cumsum(np.asarray(steps_s, np.longdouble))])
    count = len(x) - order
    total = np.zeros((count, *x.shape[1:]), np.longdouble)
    for i in range(order + 1):
        product = np.ones(count, np.longdouble)
        for j in range(order + 1):
            if j != i:
                product *= t[i : i + count] - t[j : j + count]
        total += x[i : i + count] / product.reshape(-1, *[1] * (x.ndim - 1))
    return total * factorial(order)
