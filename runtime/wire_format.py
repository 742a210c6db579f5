"""Observations and action chunks to wire messages and back; used by both ends."""

from __future__ import annotations

import numpy as np

from saccade.proto.codec import tensor_from_wire, tensor_to_wire
from saccade.proto.errors import ImageError
from saccade.proto.v1 import control_pb2 as wire
from saccade.runtime.observation import ActionChunk, Observation, Telemetry


def observation_to_wire(observation: Observation, *, token: str, profile: str) -> wire.Observation:
    """Pack an observation; images travel as raw bytes."""
    return wire.Observation(
        session_token=token,
        sequence=observation.sequence,
        captured_monotonic_ns=observation.captured_ns,
        images=[
            wire.Image(view=view, pixels=tensor_to_wire(np.asarray(pixels)))
            for view, pixels in observation.images.items()
        ],
        proprio=tensor_to_wire(np.asarray(observation.proprio)),
        profile=profile,
        wants_telemetry=observation.wants_telemetry,
    )


def observation_from_wire(message: wire.Observation) -> Observation:
    """Unpack an observation; the arrays are read-only views of the message's bytes.

    Raises:
        ImageError: A view appears twice.
        MessageError: A tensor whose shape and data do not fit.
    """
    images = {image.view: tensor_from_wire(image.pixels) for image in message.images}
    if len(images) != len(message.images):
        raise ImageError(f"expected each view once, found {[image.view for image in message.images]}.")
    return Observation(
        images=images,
        proprio=tensor_from_wire(message.proprio),
        captured_ns=message.captured_monotonic_ns,
        sequence=message.sequence,
        wants_telemetry=message.wants_telemetry,
    )


def chunk_to_wire(chunk: ActionChunk) -> wire.ActionChunk:
    """Pack an action chunk."""
    return wire.ActionChunk(
        sequence=chunk.sequence,
        actions=tensor_to_wire(chunk.actions),
        profile=chunk.profile,
        clamped=chunk.clamped,
        timings_ns=chunk.timings_ns,
        captured_monotonic_ns=chunk.captured_ns,
        telemetry=None if chunk.telemetry is None else telemetry_to_wire(chunk.telemetry),
    )


def telemetry_to_wire(telemetry: Telemetry) -> wire.Telemetry:
    """Pack telemetry."""
    return wire.Telemetry(kept=tensor_to_wire(telemetry.kept), fate=tensor_to_wire(telemetry.fate))


def telemetry_from_wire(message: wire.Telemetry) -> Telemetry:
    """Unpack telemetry.

    Raises:
        MessageError: A tensor whose shape and data do not fit.
    """
    return Telemetry(kept=tensor_from_wire(message.kept), fate=tensor_from_wire(message.fate))


def chunk_from_wire(message: wire.ActionChunk) -> ActionChunk:
    """Unpack an action chunk.

    Raises:
        MessageError: A tensor whose shape and data do not fit.
    """
    return ActionChunk(
        actions=tensor_from_wire(message.actions),
        profile=message.profile,
        clamped=message.clamped,
        sequence=message.sequence,
        captured_ns=message.captured_monotonic_ns,
        timings_ns=dict(message.timings_ns),
        telemetry=telemetry_from_wire(message.telemetry) if message.HasField("telemetry") else None,
    )
