"""Errors by stage, against numbers computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from saccade.export.verification.comparison import compare_stages

TOLERANCE = 1e-3


def of(stage: str, *frames: object) -> dict[str, np.ndarray]:
    return {f"{number}/{stage}": np.asarray(array) for number, array in enumerate(frames)}


def test_the_largest_share_of_any_frame_counts() -> None:
    theirs = of("logits", np.float32([2.0, -4.0]), np.float32([0.5, 0.25]))
    ours = of("logits", np.float32([2.0, -4.002]), np.float32([0.5, 0.251]))
    (found,), missing = compare_stages(ours, theirs, 2, TOLERANCE)
    assert (found.stage, found.numbers, found.largest, missing) == ("logits", 4, 4.0, [])
    assert found.error == pytest.approx(0.002, rel=1e-3) and found.relative == pytest.approx(0.002, rel=1e-3)
    assert not found.agrees
    assert compare_stages(ours, theirs, 2, 0.0021)[0][0].agrees


def test_tokens_are_the_same_or_not() -> None:
    (found,), _ = compare_stages(of("next tokens", [7, 8]), of("next tokens", [7, 9]), 1, TOLERANCE)
    assert (found.agrees, found.relative, found.note) == (False, 1.0, "1 of 2 are others")
    (same,), _ = compare_stages(of("next tokens", [7, 9]), of("next tokens", [7, 9]), 1, 0.0)
    assert (same.agrees, same.relative, same.note) == (True, 0.0, "")


@pytest.mark.parametrize(
    ("ours", "note"),
    [
        (np.ones(3, np.float32), "shapes: ours [3], theirs [2]"),
        (np.float32([1.0, np.nan]), "a number is not finite"),
        (np.float32([1.0, np.inf]), "a number is not finite"),
    ],
)
def test_what_cannot_be_compared_never_agrees(ours: np.ndarray, note: str) -> None:
    (found,), _ = compare_stages(of("actions", ours), of("actions", np.ones(2, np.float32)), 1, 1e9)
    assert (found.agrees, found.relative, found.note) == (False, np.inf, note)


def test_numbers_where_the_reference_has_none_never_agree() -> None:
    (found,), _ = compare_stages(of("actions", np.float32([1e-9])), of("actions", np.float32([0.0])), 1, 1.0)
    assert not found.agrees


def test_stages_come_in_the_order_in_which_a_model_runs_and_lonely_ones_are_named() -> None:
    one = np.ones(1, np.float32)
    ours = {**of("actions", one), **of("prompt tokens", [1]), **of("pictures", one)}
    theirs = {**of("prompt tokens", [1]), **of("actions", one), **of("logits", one)}
    found, missing = compare_stages(ours, theirs, 1, TOLERANCE)
    assert [stage.stage for stage in found] == ["prompt tokens", "actions"]
    assert missing == ["pictures", "logits"]


@pytest.mark.parametrize(
    ("stage", "wrong", "level", "agrees"),
    [("pictures", 1, 1, True), ("pictures", 2, 1, False), ("pictures", 1, 3, False), ("logits", 1, 1, False)],
)
def test_one_level_in_a_thousand_is_rounding(stage: str, wrong: int, level: int, agrees: bool) -> None:
    theirs = np.linspace(-1, 1, 1000, dtype=np.float32)
    ours = theirs.copy()
    ours[500 : 500 + wrong] += level * 2 / 255 * 0.99
    (found,), _ = compare_stages(of(stage, ours), of(stage, theirs), 1, TOLERANCE)
    assert found.agrees is agrees
