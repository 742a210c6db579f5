"""Frames that engines are compared on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from saccade.proto.errors import FileError, InputError
from saccade.runtime.bundle import Bundle
from saccade.runtime.parity.frames import random_frames, read_frames
from saccade.runtime.program import read_statistics


def test_random_ones_are_of_the_bundle_s_robot_and_the_same_every_time(tiny: Path) -> None:
    bundle = Bundle.open(tiny)
    statistics = read_statistics(bundle)
    frames = random_frames(bundle.manifest, statistics, 5, "push")
    assert frames.images.shape == (5, 2, 8, 8, 3) and frames.images.dtype == np.uint8
    assert (np.abs(frames.proprio) <= 1).all() and len(np.unique(frames.proprio)) == 10
    assert frames.instructions == ("push",) * 5 and frames.source == "random"
    assert not np.array_equal(frames.images[0], frames.images[1])
    again = random_frames(bundle.manifest, statistics, 5, "push")
    np.testing.assert_array_equal(frames.images, again.images)
    np.testing.assert_array_equal(frames.proprio, again.proprio)


def test_recorded_ones_are_read_and_those_of_another_robot_are_not(tiny: Path, tmp_path: Path) -> None:
    manifest, path = Bundle.open(tiny).manifest, tmp_path / "frames.npz"
    good = {
        "images": np.ones((3, 2, 8, 8, 3), np.uint8),
        "proprio": np.ones((3, 2)),
        "instruction": np.array(["push", "reach", "push"]),
    }
    np.savez(path, **good)
    frames = read_frames(path, manifest, 2)
    assert (len(frames), frames.instructions, frames.source) == (2, ("push", "reach"), "recorded")
    assert frames.proprio.dtype == np.float32
    for name, wrong, message in (
        ("images", np.ones((3, 2, 9, 8, 3), np.uint8), r"images: expected uint8\[3, 2, 8, 8, 3\].*another robot"),
        ("images", np.ones((3, 2, 8, 8, 3), np.float32), "found float32"),
        ("proprio", np.ones((3, 7)), r"proprio: expected \[3, 2\], found \[3, 7\]"),
        ("instruction", np.zeros(0, str), "at least one frame"),
    ):  # fmt: skip
        np.savez(path, **{**good, name: wrong})
        with pytest.raises(InputError, match=message):
            read_frames(path, manifest, 8)
    path.write_text("no archive")
    with pytest.raises(InputError, match="expected recorded frames, an "):
        read_frames(path, manifest, 8)
    with pytest.raises(FileError, match=r"frames\.npz"):
        read_frames(tmp_path / "no" / "frames.npz", manifest, 8)
