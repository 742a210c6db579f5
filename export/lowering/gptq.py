"""Rounds a weight to few bits in blocks: to the nearest value, or so that the product changes least (GPTQ).

GPTQ rounds one input of a weight after the other, and after each corrects the inputs not yet rounded for the error
made, as far as the activations seen in calibration let one input stand for another. How much they do says the
*Hessian*, ``H = 2/n * sum_i r_i * x_i * x_i^T``. RSQ is the same with an importance ``r_i`` for each token, brought to
a mean of 1; with equal importances it is GPTQ, to the bit.

Source:
    GPTQ, 2210.17323, algorithm 1 and the authors' code; RSQ, 2503.01820, and ylsung/rsq, ``fake_quant/gptq_utils.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saccade.proto.errors import ExportError

Floats = NDArray[np.float32] | NDArray[np.float64]
DAMPING = 0.01
"""What is added to the diagonal of the Hessian, as a share of its mean."""


@dataclass(frozen=True)
class RoundedWeight:
    """A weight in few bits: ``values * scales`` of its block.

    Args:
        values: int8 ``(inputs, outputs)``, within ``-2^(bits-1) .. 2^(bits-1)-1``.
        scales: float32 ``(inputs / block, outputs)``, above 0.
    """

    values: NDArray[np.int8]
    scales: NDArray[np.float32]

    @property
    def weight(self) -> NDArray[np.float32]:
        """The weight that an engine computes with, float32 ``(inputs, outputs)``."""
        block = len(self.values) // len(self.scales)
        whole: NDArray[np.float32] = self.values.astype(np.float32) * np.repeat(self.scales, block, axis=0)
        return whole


def hessian(activations: Floats, importances: Floats | None = None) -> NDArray[np.float64]:
    """Return the Hessian of a product with a weight, float64 ``(inputs, inputs)``.

    Args:
        activations: What the weight was multiplied with, ``(tokens, inputs)``.
        importances: How much each token counts, ``(tokens,)``, 0 or more and not all 0; None = all alike.

    Raises:
        ExportError: An importance is negative or not finite, or all are 0.
    """
    weights = np.ones(len(activations)) if importances is None else np.asarray(importances, np.float64)
    if not np.isfinite(weights).all() or weights.min() < 0 or weights.sum() <= 0:
        raise ExportError(
            f"expected importances of 0 or more, not all 0, found {weights.min():g} to {weights.max():g}: calibrate on "
            f"other frames."
        )
    weights = weights / weights.sum() * len(weights)
    scaled = np.sqrt(2.0 / len(activations) * weights)[:, None].astype(activations.dtype) * activations
    product: NDArray[np.float64] = (scaled.T @ scaled).astype(np.float64)
    return product


def round_to_nearest(weight: Floats, *, bits: int, block: int) -> RoundedWeight:
    """Round each number alone.

    Args:
        weight: ``(inputs, outputs)``.
        bits: Bits of a value, 2 to 8.
        block: Inputs that share a scale; divides their number.

    Raises:
        ExportError: The block does not divide the inputs, or a number is not finite.
    """
    rows = _checked(weight, bits, block)
    scales = np.stack([_scales(rows[start : start + block], bits) for start in range(0, len(rows), block)])
    values = _nearest(rows, np.repeat(scales, block, axis=0), bits)
    return RoundedWeight(values.astype(np.int8), scales.astype(np.float32))


def gptq(
    weight: Floats, curvature: NDArray[np.float64], *, bits: int, block: int, damping: float = DAMPING
) -> RoundedWeight:
    """Round one input after the other, and correct the rest for the error.

    Args:
        weight: ``(inputs, outputs)``.
        curvature: Hessian of the product, ``(inputs, inputs)``; see :func:`hessian`.
        bits: Bits of a value, 2 to 8.
        block: Inputs that share a scale, which is chosen when the first of them has its turn; divides their number.
        damping: What is added to the diagonal of the Hessian, as a share of its mean, above 0.

    Raises:
        ExportError: The block does not divide the inputs, a number is not finite, or the Hessian is of another size or
            cannot be inverted.
    """
    rows = _checked(weight, bits, block).copy()
    upper, is_dead = _inverse_factor(curvature, len(rows), damping)
    rows[is_dead] = 0.0
    values = np.zeros(rows.shape, np.int8)
    scales = np.zeros((len(rows) // block, rows.shape[1]))
    for start in range(0, len(rows), block):
        end = start + block
        scales[start // block] = scale = _scales(rows[start:end], bits)
        errors = np.zeros((block, rows.shape[1]))
        for index in range(start, end):
            values[index] = rounded = _nearest(rows[index], scale, bits)
            errors[index - start] = error = (rows[index] - rounded * scale) / upper[index, index]
            rows[index:end] -= np.outer(upper[index, index:end], error)
        rows[end:] -= upper[start:end, end:].T @ errors
    return RoundedWeight(values, scales.astype(np.float32))


def _checked(weight: Floats, bits: int, block: int) -> NDArray[np.float64]:
    rows = np.asarray(weight, np.float64)
    if not 2 <= bits <= 8:
        raise ExportError(f"expected 2 to 8 bits, found {bits}.")
    if rows.ndim != 2 or block < 1 or len(rows) % block:
        raise ExportError(
            f"expected a weight of two axes whose inputs are a multiple of the block of {block}, found "
            f"{list(rows.shape)}: choose another block."
        )
    if not np.isfinite(rows).all():
        raise ExportError("expected a weight of finite numbers, found NaN or infinity.")
    return rows


def _scales(rows: NDArray[np.float64], bits: int) -> NDArray[np.float64]:
    """Return what the largest number of a block makes the largest value; 1 where the block is all 0."""
    largest = np.abs(rows).max(axis=0)
    scales: NDArray[np.float64] = np.where(largest > 0, largest, 1.0) / (2 ** (bits - 1) - 1)
    return scales.astype(np.float32).astype(np.float64)  # what the engine multiplies with


def _nearest(rows: NDArray[np.float64], scales: NDArray[np.float64], bits: int) -> NDArray[np.float64]:
    most = 2 ** (bits - 1) - 1
    nearest: NDArray[np.float64] = np.clip(np.rint(rows / scales), -most - 1, most)
    return nearest


def _inverse_factor(
    curvature: NDArray[np.float64], inputs: int, damping: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the upper Cholesky factor of the damped Hessian's inverse, and which inputs were never other than 0."""
    damped = np.array(curvature, np.float64)
    if damped.shape != (inputs, inputs):
        raise ExportError(f"expected a Hessian of {inputs} inputs, found {list(damped.shape)}.")
    diagonal = np.arange(inputs)
    is_dead = damped[diagonal, diagonal] == 0
    damped[is_dead, is_dead] = 1.0
    damped[diagonal, diagonal] += damping * damped[diagonal, diagonal].mean()
    try:
        lower = np.linalg.cholesky(damped)
        inverse = np.linalg.inv(lower)
        return np.linalg.cholesky(inverse.T @ inverse).T, is_dead
    except np.linalg.LinAlgError as error:
        raise ExportError(
            f"expected a Hessian that can be inverted, found none with a damping of {damping}: calibrate "
            "on more frames."
        ) from error
