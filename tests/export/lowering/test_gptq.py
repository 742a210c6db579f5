"""GPTQ against its definition: the optimal correction solved by least squares, input by input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from saccade.export.lowering.gptq import gptq, hessian, round_to_nearest
from saccade.proto.errors import ExportError

TOKENS, INPUTS, OUTPUTS, BLOCK = 200, 16, 6, 8
Doubles = NDArray[np.float64]


def drawn(seed: int) -> tuple[Doubles, Doubles]:
    """Activations whose inputs can stand for one another, and a weight."""
    rng = np.random.default_rng(seed)
    activations = rng.normal(size=(TOKENS, INPUTS)) @ rng.normal(size=(INPUTS, INPUTS))
    return activations, rng.normal(size=(INPUTS, OUTPUTS))


def by_least_squares(weight: Doubles, curvature: Doubles, *, bits: int, block: int) -> Doubles:
    """Round an input, then let all that follow make up for it as well as they can: the problem, not the algorithm.

    ``min_d (w_q - w + d)^T H (w_q - w + d)`` over the inputs not yet rounded, by the normal equations.
    """
    curvature = curvature + 0.01 * np.diag(curvature).mean() * np.eye(len(curvature))
    most, rows = 2 ** (bits - 1) - 1, weight.copy()
    for index in range(len(rows)):
        if index % block == 0:
            scale = (np.abs(rows[index : index + block]).max(axis=0) / most).astype(np.float32).astype(float)
        error = rows[index] - np.clip(np.rint(rows[index] / scale), -most - 1, most) * scale
        rows[index] -= error
        if index + 1 < len(rows):
            rest = slice(index + 1, None)
            rows[rest] += np.linalg.solve(curvature[rest, rest], np.outer(curvature[rest, index], error))
    return rows


@pytest.mark.parametrize("bits", [3, 4])
def test_the_rest_makes_up_for_what_was_rounded(bits: int) -> None:
    for seed in range(5):
        activations, weight = drawn(seed)
        curvature = hessian(activations)
        found = gptq(weight, curvature, bits=bits, block=BLOCK)
        np.testing.assert_allclose(
            found.weight, by_least_squares(weight, curvature, bits=bits, block=BLOCK), atol=1e-5
        )


@pytest.mark.parametrize("bits", [3, 4])
def test_the_product_changes_less_than_with_rounding_to_nearest(bits: int) -> None:
    for seed in range(10):
        activations, weight = drawn(seed)
        wanted = activations @ weight
        nearest = round_to_nearest(weight, bits=bits, block=BLOCK)
        corrected = gptq(weight, hessian(activations), bits=bits, block=BLOCK)
        lost = [np.square(activations @ each.weight - wanted).sum() for each in (nearest, corrected)]
        assert lost[1] < lost[0]


def test_equal_importances_are_plain_gptq_to_the_bit() -> None:
    activations, weight = drawn(0)
    plain, equal = hessian(activations), hessian(activations, np.full(TOKENS, 1.0))
    np.testing.assert_array_equal(plain, equal)
    first, second = (gptq(weight, each, bits=4, block=BLOCK) for each in (plain, equal))
    np.testing.assert_array_equal(first.values, second.values)
    np.testing.assert_array_equal(first.scales, second.scales)


def test_importances_of_0_and_1_are_gptq_on_the_tokens_of_1() -> None:
    activations, weight = drawn(1)
    counts = np.arange(TOKENS) % 3 == 0
    some, alone = hessian(activations, counts.astype(float)), hessian(activations[counts])
    np.testing.assert_allclose(some, alone, rtol=1e-12)
    first, second = (gptq(weight, each, bits=4, block=BLOCK) for each in (some, alone))
    np.testing.assert_array_equal(first.values, second.values)


def test_what_counts_more_is_changed_less() -> None:
    """Averaged over draws: the important half of the tokens, against what plain GPTQ does to it."""
    gains = []
    for seed in range(20):
        activations, weight = drawn(seed)
        activations[TOKENS // 2 :] @= np.diag(np.linspace(0.2, 3, INPUTS))
        important = np.where(np.arange(TOKENS) < TOKENS // 2, 1.0, 0.005)
        half = activations[: TOKENS // 2]
        lost = [
            np.square(
                half @ (gptq(weight, hessian(activations, r), bits=3, block=BLOCK).weight - weight)
            ).sum()
            for r in (None, important)
        ]
        gains.append(lost[1] / lost[0])
    assert np.mean(gains) < 1


def test_rounding_to_nearest_is_off_by_half_a_step_at_most() -> None:
    _, weight = drawn(2)
    found = round_to_nearest(weight, bits=4, block=BLOCK)
    assert (np.abs(found.weight - weight) <= np.repeat(found.scales, BLOCK, axis=0) / 2 + 1e-6).all()
    assert found.values.min() >= -8 and found.values.max() <= 7


@given(seed=st.integers(0, 10_000), bits=st.integers(2, 8), dead=st.integers(0, INPUTS))
def test_wild_weights_stay_in_range_and_finite(seed: int, bits: int, dead: int) -> None:
    rng = np.random.default_rng(seed)
    activations, weight = drawn(seed)
    activations[:, :dead] = 0
    weight *= 10.0 ** rng.integers(-8, 8)
    weight[rng.integers(INPUTS)] = 0
    found = gptq(weight, hessian(activations), bits=bits, block=BLOCK)
    assert found.values.min() >= -(2 ** (bits - 1)) and found.values.max() < 2 ** (bits - 1)
    assert np.isfinite(found.weight).all() and (found.scales > 0).all()
    assert not found.weight[:dead].any(), "an input that is always 0 needs no weight"


def test_what_cannot_be_rounded_is_said() -> None:
    activations, weight = drawn(3)
    with pytest.raises(ExportError, match="multiple of the block of 7"):
        round_to_nearest(weight, bits=4, block=7)
    with pytest.raises(ExportError, match="2 to 8 bits, found 1"):
        round_to_nearest(weight, bits=1, block=BLOCK)
    with pytest.raises(ExportError, match="NaN or infinity"):
        round_to_nearest(np.full((8, 2), np.nan), bits=4, block=BLOCK)
    with pytest.raises(ExportError, match="Hessian of 16 inputs"):
        gptq(weight, hessian(activations[:, :8]), bits=4, block=BLOCK)
    for importances in (np.zeros(TOKENS), np.full(TOKENS, -1.0), np.full(TOKENS, np.inf)):
        with pytest.raises(ExportError, match="not all 0"):
            hessian(activations, importances)
