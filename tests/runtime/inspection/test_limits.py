from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from saccade.proto.manifest import LimitsSpec, read_manifest
from saccade.runtime.inspection.limits import tell_limits


def test_each_axis_says_what_it_may_do(tiny: Path) -> None:
    manifest = read_manifest(tiny)
    assert tell_limits(manifest) == {
        "limits": "dx delta, 0.4 m/s, 16 m/s²; gripper discrete, 0 to 1",
    }
    places = replace(
        manifest,
        action=replace(manifest.action, convention="absolute_joint", units=("rad", "1")),
        limits=LimitsSpec(
            (-1.0, 0.0),
            (1.0, 1.0),
            (0.05, 0.1),
            margin=(0.1, 0.0),
            jerk=(50.0, 9.0),
            kinds=("angle", "linear"),
        ),
    )
    assert tell_limits(places) == {
        "limits": "dx angle, -0.9 to 0.9 rad, 1 rad/s, 50 rad/s³; gripper 0 to 1, 2/s, 9/s³",
    }


def test_what_cannot_be_followed_says_why(tiny: Path) -> None:
    manifest = read_manifest(tiny)
    velocities = replace(manifest, action=replace(manifest.action, convention="joint_velocity"))
    assert tell_limits(velocities)["limits"].startswith(
        "each chunk by itself alone: expected actions that are places"
    )
