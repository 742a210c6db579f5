"""Times of a client on the daemon's clock, and back: the same on one host, by the client's measure on two."""

from __future__ import annotations

import dataclasses

from saccade.proto.v1 import control_pb2 as wire
from saccade.runtime.observation import ActionChunk, Observation
from saccade.runtime.servers.lease import Owner
from saccade.runtime.transports.wire_format import clock_from_wire, observation_from_wire


def our_capture_ns(request: wire.Observation, owner: Owner, arrived_ns: int) -> int:
    """Return when an observation was captured, nanoseconds on the daemon's clock; never after it arrived.

    Where clocks differ and the client has measured nothing yet, that is when it arrived.

    Args:
        request: The observation.
        owner: The client that sent it.
        arrived_ns: When it arrived, nanoseconds on the daemon's clock.
    """
    if owner.has_our_clock:
        return request.captured_monotonic_ns
    if not request.HasField("clock"):
        return arrived_ns
    return min(arrived_ns, request.captured_monotonic_ns + request.clock.offset_ns)


def on_our_clock(request: wire.Observation, owner: Owner, arrived_ns: int) -> Observation:
    """Unpack an observation with its time on the daemon's clock, and remember what its client says of the clocks.

    Args:
        request: The observation.
        owner: The client that sent it.
        arrived_ns: When it arrived, nanoseconds on the daemon's clock.

    Raises:
        ImageError: A view appears twice.
        MessageError: Shape and data of a tensor do not fit.
    """
    if request.HasField("clock"):
        owner.clock = clock_from_wire(request.clock)
    observation = observation_from_wire(request)
    return dataclasses.replace(observation, captured_ns=our_capture_ns(request, owner, arrived_ns))


def on_clients_clock(chunk: ActionChunk, captured_ns: int) -> ActionChunk:
    """Return a chunk whose times are those of its client's clock.

    Args:
        chunk: The chunk, on the daemon's clock.
        captured_ns: When its observation was captured, on the client's clock.
    """
    shift_ns = captured_ns - chunk.captured_ns
    return dataclasses.replace(
        chunk,
        captured_ns=captured_ns,
        valid_from_ns=chunk.valid_from_ns + shift_ns,
        expires_ns=chunk.expires_ns + shift_ns,
    )
