"""Randomised Hadamard rotations: orthogonal matrices whose entries all have the same size.

Such a rotation spreads an outlier of one channel over all of them. A Hadamard matrix of entries 1 and -1 is put
together from smaller ones: 2 (Sylvester), ``q + 1`` and ``2 (q + 1)`` for a prime ``q`` that is 3 or 1 modulo 4
(Paley). That covers the widths of published decoders; where it does not, there is no rotation.

Source:
    QuaRot, 2404.00456, section 2: a Hadamard matrix times a diagonal of random signs. Paley, J. Math. Phys. 12 (1933).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_SYLVESTER = np.array([[1.0, 1.0], [1.0, -1.0]])


def rotation(width: int, seed: int = 0) -> Floats | None:
    """Return a rotation, float64 ``(width, width)``, the same for the same width and seed; None if none is known.

    Args:
        width: Channels.
        seed: Seed of the signs.
    """
    matrix = hadamard(width)
    if matrix is None:
        return None
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], width)
    rotated: Floats = signs[:, None] * matrix / np.sqrt(width)
    return rotated


def hadamard(order: int) -> Floats | None:
    """Return a Hadamard matrix, float64 of 1 and -1, ``(order, order)``; None if this module cannot make one.

    Args:
        order: Rows and columns.
    """
    if order in {1, 2}:
        return _SYLVESTER[:order, :order].copy()
    if order < 1 or order % 4:
        return None
    if _is_prime(order - 1):
        return _paley_first(order - 1)
    if _is_prime(order // 2 - 1) and (order // 2 - 1) % 4 == 1:
        return _paley_second(order // 2 - 1)
    return _product(order)


def _product(order: int) -> Floats | None:
    for factor in (2, *range(4, int(order**0.5) + 1, 4)):
        small, large = (hadamard(factor), hadamard(order // factor)) if order % factor == 0 else (None, None)
        if small is not None and large is not None:
            return np.kron(small, large).astype(np.float64)
    return None


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % each for each in range(2, int(number**0.5) + 1))


def _jacobsthal(prime: int) -> Floats:
    """Return ``chi(i - j)``: 1 for a square modulo the prime, -1 for none, 0 for 0."""
    character = np.full(prime, -1.0)
    character[[each * each % prime for each in range(prime)]] = 1.0
    character[0] = 0.0
    places = np.arange(prime)
    matrix: Floats = character[(places[:, None] - places[None, :]) % prime]
    return matrix


def _bordered(prime: int, side: float) -> Floats:
    bordered = np.zeros((prime + 1, prime + 1))
    bordered[0, 1:], bordered[1:, 0] = 1.0, side
    bordered[1:, 1:] = _jacobsthal(prime)
    return bordered


def _paley_first(prime: int) -> Floats:
    """Order ``prime + 1``, for a prime that is 3 modulo 4."""
    return np.eye(prime + 1) + _bordered(prime, -1.0)


def _paley_second(prime: int) -> Floats:
    """Order ``2 * (prime + 1)``, for a prime that is 1 modulo 4."""
    bordered = _bordered(prime, 1.0)
    return np.kron(bordered, _SYLVESTER) + np.kron(np.eye(prime + 1), np.array([[1.0, -1.0], [-1.0, -1.0]]))
