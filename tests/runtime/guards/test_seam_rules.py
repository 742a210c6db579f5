from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from saccade.proto.errors import ActionRefusedError, LimitsError
from saccade.proto.manifest import Manifest, read_manifest, write_manifest
from saccade.runtime.client import Client
from saccade.runtime.daemon import Daemon, DaemonConfig
from saccade.runtime.guards.seam_rules import SeamRules
from saccade.runtime.motion.operator_limits import OperatorLimits
from saccade.runtime.observation import Observation
from saccade.runtime.transports.registry import TransportName
from tests.tiny_bundle import tiny_observation


@pytest.fixture
def manifest(tiny: Path) -> Manifest:
    return read_manifest(tiny)


def test_each_session_gets_its_own_limiter(manifest: Manifest) -> None:
    rules = SeamRules(manifest)
    assert rules.limiter() is not None and rules.limiter() is not rules.limiter()
    assert rules.operator_json == ""


def test_an_operator_narrows_and_clients_are_told(manifest: Manifest) -> None:
    cell = OperatorLimits(velocity=(0.1, None))
    assert OperatorLimits.from_text(SeamRules(manifest, cell).operator_json) == cell
    with pytest.raises(LimitsError, match="never widens them"):
        SeamRules(manifest, OperatorLimits(velocity=(9.0, None)))


def test_what_cannot_be_followed_is_logged_and_refused_only_to_who_asks(
    manifest: Manifest, caplog: pytest.LogCaptureFixture
) -> None:
    velocities = replace(manifest, action=replace(manifest.action, convention="joint_velocity"))
    assert SeamRules(velocities).limiter() is None
    assert "limited each by itself alone" in caplog.text
    for rules in ({"operator": OperatorLimits()}, {"refuses": True}):
        with pytest.raises(LimitsError, match="limited one after the other"):
            SeamRules(velocities, **rules)  # type: ignore[arg-type]


CELL = OperatorLimits(velocity=(0.02, None))


def placing(tiny: Path) -> Path:
    """The tiny bundle, whose first number is a place now: 0 where it is dark, 1 cm where there is light."""
    manifest = read_manifest(tiny)
    action = replace(manifest.action, convention="absolute_ee")
    write_manifest(replace(manifest, action=action), tiny)
    return tiny


def seen(sequence: int, *, light: bool, executed: int | None = None) -> Observation:
    images = {view: np.full((8, 8, 3), 250 if light else 0, np.uint8) for view in ("scene", "wrist")}
    return replace(tiny_observation(sequence=sequence), images=images, executed=executed)


@contextmanager
def serving(bundle: Path, transport: TransportName, *, refuses: bool = False) -> Iterator[Client]:
    config = DaemonConfig(
        placing(bundle), bind="127.0.0.1:0", zmq_bind="127.0.0.1:0", threads=1, max_age_ns=0,
        max_frozen_frames=0, limits=CELL, refuses_over_limits=refuses,
    )  # fmt: skip
    with Daemon(config) as daemon:
        address = daemon.address if transport == "grpc" else daemon.zmq_address
        assert address is not None
        with Client(address, transport=transport) as client:
            yield client


@pytest.mark.parametrize("transport", ["grpc", "zmq"])
def test_a_client_without_a_limiter_gets_chunks_that_follow_on(tiny: Path, transport: TransportName) -> None:
    with serving(tiny, transport) as client:
        with client.open() as session:
            session.reset("push the red cube")
            dark = session.act(seen(1, light=False))
            assert dark.limited == () and np.abs(dark.actions[:, 0]).max() < 1e-6
            bright = session.act(seen(2, light=True, executed=2))
            assert bright.limited == ("dx",) and bright.clamped == 3
            np.testing.assert_allclose(bright.actions[:, 0], [0.001, 0.002, 0.003], atol=1e-6)
            on = session.act(seen(3, light=True, executed=2))
            np.testing.assert_allclose(on.actions[:, 0], [0.003, 0.004, 0.005], atol=1e-6)
            session.reset("push the red cube")
            assert session.act(seen(1, light=True)).limited == (), "the arm may have been moved meanwhile"
        counters = client.describe().counters
        assert (counters["limited"], counters["limited.dx"], counters["clamped"]) == (2, 2, 6)


@pytest.mark.parametrize("transport", ["grpc", "zmq"])
def test_it_can_be_refused_instead_and_the_next_goes_on_from_what_was_sent(
    tiny: Path, transport: TransportName
) -> None:
    with serving(tiny, transport, refuses=True) as client, client.open() as session:
        session.reset("push the red cube")
        session.act(seen(1, light=False))
        for sequence in (2, 3):
            with pytest.raises(ActionRefusedError, match=r"'dx' at control step 0 .* limit of velocity"):
                session.act(seen(sequence, light=True, executed=2))
        assert session.act(seen(4, light=False, executed=2)).limited == ()


def test_a_client_that_limits_itself_is_told_the_limits_of_the_cell_instead(tiny: Path) -> None:
    with serving(tiny, "grpc") as client:
        assert client.describe().operator_limits == CELL
        assert client.motion_limits().velocity[0] == 0.02
        with pytest.raises(LimitsError, match="never widens"):
            client.motion_limits(OperatorLimits(velocity=(0.03, None)))
        with client.open(limits_itself=True) as session:
            session.reset("push the red cube")
            session.act(seen(1, light=False))
            assert session.act(seen(2, light=True, executed=2)).limited == ()


def test_a_daemon_does_not_start_with_limits_that_widen(tiny: Path) -> None:
    wide = DaemonConfig(tiny, bind="127.0.0.1:0", limits=OperatorLimits(velocity=(9.0, None)))
    with (
        pytest.raises(LimitsError, match=r"'dx': expected velocity within the bundle's 0\.4, found 9"),
        Daemon(wide),
    ):
        pass
