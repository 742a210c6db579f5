"""Through the daemon or in process: the same robot, the same answers; a robot that does not fit is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saccade.proto.errors import SimulatorError, UnknownProfileError
from saccade.proto.manifest import Manifest, VectorSpec, ViewSpec
from saccade.sim.closed_loop import Moment, run_episode
from saccade.sim.connection import (
    Connection,
    TransportChoice,
    check_robot,
    connect,
    image_px,
    profiles_for,
    table_of,
)
from saccade.sim.tabletop.env import TabletopEnv
from saccade.sim.tabletop.tables import BUNDLED, TABLES


def changed(manifest: Manifest, change: dict[str, Any]) -> Manifest:
    """A manifest with other values; the rules between its parts are tested elsewhere."""
    other = object.__new__(Manifest)
    for field in dataclasses.fields(Manifest):
        object.__setattr__(other, field.name, change.get(field.name, getattr(manifest, field.name)))
    return other


def moments_of(connection: Connection) -> list[Moment]:
    moments: list[Moment] = []
    env = TabletopEnv("reach")
    run_episode(env, connection.robot, seed=2, profile="keep25", watch=moments.append)
    env.close()
    return moments


@pytest.mark.parametrize("transport", ["grpc", "zmq"])
def test_the_daemon_answers_as_the_session_in_process(
    bundle: Path, in_process: Connection, transport: TransportChoice
) -> None:
    with connect(bundle, transport=transport, threads=1) as remote:
        assert remote.manifest == in_process.manifest and remote.engine == in_process.engine
        answers, expected = moments_of(remote), moments_of(in_process)
    assert len(answers) == len(expected) == 40
    for answer, reference in zip(answers, expected, strict=True):
        assert answer.chunk is not None and reference.chunk is not None
        np.testing.assert_array_equal(answer.chunk.actions, reference.chunk.actions)
        assert answer.chunk.telemetry is not None and reference.chunk.telemetry is not None
        np.testing.assert_array_equal(answer.chunk.telemetry.kept, reference.chunk.telemetry.kept)
        np.testing.assert_array_equal(answer.chunk.telemetry.fate, reference.chunk.telemetry.fate)
        np.testing.assert_array_equal(
            answer.observation.images["wrist"], reference.observation.images["wrist"]
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"views": (ViewSpec("front", 144, 144), ViewSpec("wrist", 144, 144))}, "views scene, wrist"),
        ({"views": (ViewSpec("scene", 120, 120), ViewSpec("wrist", 96, 96))}, "square views"),
        ({"views": (ViewSpec("scene", 120, 90), ViewSpec("wrist", 120, 90))}, "square views"),
        ({"proprio": VectorSpec(("x", "y"), ("m", "m"))}, "proprioception tcp_x"),
    ],
)
def test_a_bundle_for_another_robot_is_refused(
    in_process: Connection, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(SimulatorError, match=message):
        check_robot(changed(in_process.manifest, change))


def test_a_bundle_says_which_table_it_belongs_to(in_process: Connection) -> None:
    assert in_process.table is table_of(in_process.manifest, "shapes") is TABLES["shapes"]


@pytest.mark.parametrize(
    "data_set", ["kitchen", "saccade_tabletop"], ids=["unknown", "the first saccade-mini"]
)
def test_a_bundle_of_no_table_needs_to_be_told(in_process: Connection, data_set: str) -> None:
    views = (ViewSpec("scene", 120, 120), ViewSpec("wrist", 120, 120))
    manifest = changed(in_process.manifest, {"statistics_key": data_set, "views": views})
    expected = (
        rf"shapes \(saccade_shapes, 144 px\), found .* {data_set} and the views scene 120x120, wrist 120x120"
    )
    with pytest.raises(SimulatorError, match=expected):
        table_of(manifest)
    assert table_of(manifest, "shapes") is BUNDLED


def test_profiles_by_keep_ratio(in_process: Connection) -> None:
    assert profiles_for(in_process.manifest, (0.25, 1.0)) == ("keep25", "full")
    with pytest.raises(UnknownProfileError, match=r"1 \(full\), 0\.25 \(keep25\); found 0\.3"):
        profiles_for(in_process.manifest, (0.3,))
    assert image_px(in_process.manifest) == 144
