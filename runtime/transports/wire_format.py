"""Observations and action chunks, questions and answers to wire messages and back; used by both ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.proto.codec import tensor_from_wire, tensor_to_wire
from saccade.proto.errors import ImageError, InputError, ProprioError, QuestionError, TensorError
from saccade.proto.instruction_spec import check_unicode
from saccade.proto.v1 import control_pb2 as wire
from saccade.runtime.answering.question import Piece, Question
from saccade.runtime.answering.sampling import Sampling
from saccade.runtime.clock_offset import ClockEstimate
from saccade.runtime.observation import ActionChunk, Observation, ProfileChoice, Telemetry


def observation_to_wire(observation: Observation, *, token: str, profile: str) -> wire.Observation:
    """Pack an observation; images travel as raw bytes.

    Args:
        observation: What the robot senses; its noise stays behind, for that is drawn in the daemon.
        token: Token of the session.
        profile: Name of the profile that runs; empty = the session's.

    Raises:
        ImageError: An image has a dtype that the wire does not have, or is no array.
        ProprioError: Proprioception has such a dtype, or is no array.
        InputError: A name is no Unicode text, or ``executed`` is below 0.
    """
    if observation.executed is not None and observation.executed < 0:
        raise InputError(f"expected 0 or more executed actions, found {observation.executed}.")
    with unicode_only("names of views and profile"):
        return wire.Observation(
            session_token=token,
            sequence=observation.sequence,
            captured_monotonic_ns=observation.captured_ns,
            images=_images_to_wire(observation.images),
            proprio=_tensor_to_wire(observation.proprio, ProprioError, "expected float32 proprioception"),
            profile=profile,
            wants_telemetry=observation.wants_telemetry,
            executed=observation.executed,
        )


def observation_from_wire(message: wire.Observation) -> Observation:
    """Unpack an observation; the arrays are read-only.

    Raises:
        ImageError: A view appears twice.
        MessageError: Shape and data of a tensor do not fit.
    """
    return Observation(
        images=_images_from_wire(message.images),
        proprio=tensor_from_wire(message.proprio),
        captured_ns=message.captured_monotonic_ns,
        sequence=message.sequence,
        wants_telemetry=message.wants_telemetry,
        executed=message.executed if message.HasField("executed") else None,
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
        far_proprio=chunk.far_proprio,
        choice=None if chunk.choice is None else wire.ProfileChoice(**asdict(chunk.choice)),
        telemetry=None if chunk.telemetry is None else telemetry_to_wire(chunk.telemetry),
        valid_from_monotonic_ns=chunk.valid_from_ns,
        expires_monotonic_ns=chunk.expires_ns,
        limited=chunk.limited,
    )


def clock_to_wire(estimate: ClockEstimate) -> wire.ClockReport:
    """Pack what a client measured of the clocks."""
    return wire.ClockReport(**asdict(estimate))


def clock_from_wire(message: wire.ClockReport) -> ClockEstimate:
    """Unpack what a client measured of the clocks."""
    return ClockEstimate(message.offset_ns, message.uncertainty_ns, message.drift_ppm, message.steps)


def telemetry_to_wire(telemetry: Telemetry) -> wire.Telemetry:
    """Pack telemetry."""
    ages = telemetry.encoded_ages
    return wire.Telemetry(
        kept=tensor_to_wire(telemetry.kept),
        fate=tensor_to_wire(telemetry.fate),
        encoded_ages=None if ages is None else tensor_to_wire(ages),
    )


def telemetry_from_wire(message: wire.Telemetry) -> Telemetry:
    """Unpack telemetry.

    Raises:
        MessageError: Shape and data of a tensor do not fit.
    """
    return Telemetry(
        kept=tensor_from_wire(message.kept),
        fate=tensor_from_wire(message.fate),
        encoded_ages=tensor_from_wire(message.encoded_ages) if message.HasField("encoded_ages") else None,
    )


def chunk_from_wire(message: wire.ActionChunk) -> ActionChunk:
    """Unpack an action chunk.

    Raises:
        MessageError: Shape and data of a tensor do not fit.
    """
    return ActionChunk(
        actions=tensor_from_wire(message.actions),
        profile=message.profile,
        clamped=message.clamped,
        sequence=message.sequence,
        captured_ns=message.captured_monotonic_ns,
        timings_ns=dict(message.timings_ns),
        far_proprio=tuple(message.far_proprio),
        choice=_choice_from_wire(message.choice) if message.HasField("choice") else None,
        telemetry=telemetry_from_wire(message.telemetry) if message.HasField("telemetry") else None,
        valid_from_ns=message.valid_from_monotonic_ns,
        expires_ns=message.expires_monotonic_ns,
        limited=tuple(message.limited),
    )


def _choice_from_wire(message: wire.ProfileChoice) -> ProfileChoice:
    return ProfileChoice(
        profile=message.profile,
        reason=message.reason,
        is_switch=message.is_switch,
        predicted_ns=message.predicted_ns,
        deadline_ns=message.deadline_ns,
        ready_ns=message.ready_ns,
    )


def question_to_wire(question: Question) -> wire.Question:
    """Pack a question; images travel as raw bytes.

    Raises:
        ImageError: A picture has a dtype that the wire does not have, or is no array.
        InstructionError: The question is no Unicode text.
        InputError: A name is no Unicode text.
        QuestionError: A number is larger than the wire can carry, or no new token is asked for.
    """
    check_unicode(question.text)
    sampling = question.sampling
    try:
        with unicode_only("names of pictures and profile"):
            return wire.Question(
                text=question.text,
                images=_images_to_wire(question.images),
                profile=question.profile or "",
                max_new_tokens=_wanted_tokens(question.max_new_tokens),
                sampling=None if sampling is None else _sampling_to_wire(sampling),
            )
    except ValueError as error:
        raise QuestionError(
            f"expected max_new_tokens and top_k below 2^32 and a seed below 2^64: {error}."
        ) from error


def question_from_wire(message: wire.Question) -> Question:
    """Unpack a question; the arrays are read-only.

    Raises:
        ImageError: A view appears twice.
        MessageError: Shape and data of a tensor do not fit.
        QuestionError: Sampling is out of range.
    """
    return Question(
        text=message.text,
        images=_images_from_wire(message.images),
        profile=message.profile or None,
        max_new_tokens=message.max_new_tokens or None,
        sampling=_sampling_from_wire(message.sampling) if message.HasField("sampling") else None,
    )


def _sampling_to_wire(sampling: Sampling) -> wire.Sampling:
    return wire.Sampling(
        temperature=sampling.temperature, top_k=sampling.top_k, top_p=sampling.top_p, seed=sampling.seed
    )


def _sampling_from_wire(message: wire.Sampling) -> Sampling:
    return Sampling(
        temperature=message.temperature,
        top_k=message.top_k,
        top_p=message.top_p if message.HasField("top_p") else 1.0,
        seed=message.seed,
    )


def piece_to_wire(piece: Piece) -> wire.AnswerPiece:
    """Pack a piece of an answer."""
    return wire.AnswerPiece(
        token=piece.token, text=piece.text, is_last=piece.is_last, timings_ns=piece.timings_ns
    )


def piece_from_wire(message: wire.AnswerPiece) -> Piece:
    """Unpack a piece of an answer."""
    return Piece(message.token, message.text, message.is_last, dict(message.timings_ns))


@contextmanager
def unicode_only(expected: str) -> Iterator[None]:
    """Refuse text that no message can carry.

    Args:
        expected: What the text is, for the message.

    Raises:
        InputError: Some text is no Unicode text, as where bytes were not UTF-8.
    """
    try:
        yield
    except UnicodeEncodeError as error:
        raise InputError(
            f"expected {expected} in Unicode, found half of a surrogate pair in {error.object!a}: decode it as what it "
            "is encoded in, UTF-8 for instance."
        ) from error


def _wanted_tokens(wanted: int | None) -> int:
    """On the wire 0 stands for none named; whoever names 0 is told what is wrong with it, as in process."""
    if wanted is None:
        return 0
    if wanted < 1:
        raise QuestionError(f"expected 1 new token or more, found {wanted}.")
    return wanted


def _images_to_wire(images: Mapping[str, NDArray[np.uint8]]) -> list[wire.Image]:
    return [
        wire.Image(
            view=view, pixels=_tensor_to_wire(pixels, ImageError, f"view {view!r}: expected uint8 pixels")
        )
        for view, pixels in images.items()
    ]


def _tensor_to_wire(values: Any, kind: type[InputError], what: str) -> wire.Tensor:
    """Pack what a caller gave; whatever is no array that the wire has is an error of ``kind``, which names it."""
    try:
        return tensor_to_wire(np.asarray(values))
    except (TensorError, ValueError, TypeError) as error:  # numpy raises the latter two of ragged lists
        raise kind(f"{what}: {error}") from error


def _images_from_wire(messages: Sequence[wire.Image]) -> dict[str, NDArray[Any]]:
    images = {message.view: tensor_from_wire(message.pixels) for message in messages}
    if len(images) != len(messages):
        raise ImageError(f"expected each view once, found {[message.view for message in messages]}.")
    return images
