"""What is placed keeps its distance, or is not placed at all."""

from __future__ import annotations

import numpy as np

from saccade.sim.tabletop.placement import place


def test_points_keep_their_distance_and_stay_inside() -> None:
    rng, low, high = np.random.default_rng(0), np.array([0.0, -1.0]), np.array([2.0, 1.0])
    points: list[np.ndarray] = []
    for _ in range(6):
        assert place(rng, points, [(points, 0.5)], low, high)
    gaps = [np.linalg.norm(one - other) for i, one in enumerate(points) for other in points[:i]]
    assert min(gaps) >= 0.5
    assert ((np.array(points) >= low) & (np.array(points) <= high)).all()


def test_no_room_is_said_and_what_is_absent_takes_none() -> None:
    rng, low, high = np.random.default_rng(0), np.zeros(2), np.ones(2)
    points: list[np.ndarray] = []
    assert not place(rng, points, [([np.full(2, 0.5)], 2.0)], low, high) and points == []
    assert place(rng, points, [([np.full(2, np.nan)], 2.0)], low, high)
