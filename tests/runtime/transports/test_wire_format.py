"""Telemetry goes through the wire and comes back, whatever of it there is."""

from __future__ import annotations

import numpy as np
import pytest

from saccade.proto.v1 import control_pb2 as wire
from saccade.runtime.observation import Telemetry
from saccade.runtime.transports.wire_format import telemetry_from_wire, telemetry_to_wire


@pytest.mark.parametrize("ages", [None, np.array([0, 3, 0, 1 << 20], np.int64)])
def test_telemetry_comes_back_as_it_was(ages: np.ndarray | None) -> None:
    sent = Telemetry(np.array([0, 2], np.int64), np.array([0, -1, 2, 2], np.int64), ages)
    message = wire.Telemetry.FromString(telemetry_to_wire(sent).SerializeToString())
    found = telemetry_from_wire(message)
    np.testing.assert_array_equal(found.kept, sent.kept)
    np.testing.assert_array_equal(found.fate, sent.fate)
    if ages is None:
        assert found.encoded_ages is None
    else:
        assert found.encoded_ages is not None and found.encoded_ages.dtype == np.int64
        np.testing.assert_array_equal(found.encoded_ages, ages)


def test_telemetry_of_a_daemon_that_knows_no_ages_is_read() -> None:
    old = telemetry_to_wire(Telemetry(np.array([1], np.int64), np.array([-1, 1], np.int64)))
    assert not old.HasField("encoded_ages")
    assert telemetry_from_wire(old).encoded_ages is None
