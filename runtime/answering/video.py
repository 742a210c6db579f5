"""Frames from video files, as many as a model was trained to see. The only file that imports PyAV (extra ``video``).

A video is read twice, front to back: once without decoding, to know how many frames it has (many containers do not
say), and once decoded up to the last frame that is wanted. No more than the wanted frames are ever held.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream
from numpy.typing import NDArray

from saccade.proto.errors import SaccadeError, VideoError

Choose = Callable[[int], Sequence[int]]
"""From how many frames a video has to the numbers of those that are wanted, ascending; a number may be repeated."""
Fit = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]

_LOCAL_ONLY = {"protocol_whitelist": "file"}
"""Options that keep FFmpeg from fetching what a file names, such as the parts of a playlist, from elsewhere."""
_CLOCK = re.compile(r"(\d+):(\d+):(\d+(?:\.\d+)?)")
_MISSING_S = 0.5
_MISSING_SHARE = 0.05
"""Share of a track; one that ends earlier than its header says by more than this and ``_MISSING_S`` was cut off."""


@dataclass(frozen=True)
class VideoFrame:
    """One frame of a video.

    Args:
        pixels: uint8 ``(height, width, 3)``, RGB.
        time_s: Seconds since the first frame of the video.
    """

    pixels: NDArray[np.uint8]
    time_s: float


def read_video(path: Path, choose: Choose, fit: Fit = lambda pixels: pixels) -> list[VideoFrame]:
    """Read the wanted frames of a video.

    Args:
        path: A file of any format that FFmpeg reads; the first video track counts. Rotation that a file asks players
            for is not applied, as in the reference (the PyAV reader of ``transformers.video_utils``).
        choose: From the number of frames of the video to the numbers of those that are wanted, ascending.
        fit: Applied to each wanted frame as soon as it is decoded, so that none is held at its full size.

    Raises:
        VideoError: There is no such file; it is no video, or has no picture, or is damaged or cut off before the last
            wanted frame.
    """
    wanted = choose(_count(path))
    frames, decoded = _decode(path, frozenset(wanted), fit)
    if decoded and decoded <= max(wanted):  # some packets show nothing: now the number is exact
        wanted = choose(decoded)
        frames, decoded = _decode(path, frozenset(wanted), fit)
    if not all(number in frames for number in wanted):
        raise VideoError(
            f"{path.name}: expected frame {max(wanted)}, found {decoded} that can be decoded: is the file damaged?"
        )
    return [frames[number] for number in wanted]


def _count(path: Path) -> int:
    """Return the number of packets of the video track: that of frames, or a little more."""
    packets, end_s = 0, 0.0
    with _opened(path) as (container, stream):
        for packet in container.demux(stream):
            if packet.is_corrupt:
                raise VideoError(
                    f"{path.name}: expected a whole video, found it damaged or cut off at {end_s:.2f} s: copy it again."
                )
            if packet.size:
                packets += 1
                end_s = max(end_s, _seconds(packet.pts, packet) + _seconds(packet.duration, packet))
        start_s, expected_s = _seconds(stream.start_time, stream), _duration_s(container, stream)
    if not packets:
        raise VideoError(f"{path.name}: expected a video with frames, found none in it.")
    missing_s = expected_s - (end_s - start_s)
    if missing_s > max(_MISSING_S, _MISSING_SHARE * expected_s):
        raise VideoError(
            f"{path.name}: expected {expected_s:.2f} s of video, as the file says, found it cut off at "
            f"{end_s - start_s:.2f} s: copy it again."
        )
    return packets


def _decode(path: Path, wanted: frozenset[int], fit: Fit) -> tuple[dict[int, VideoFrame], int]:
    """Decode up to the last wanted frame; return those that are wanted, and how many were decoded."""
    frames: dict[int, VideoFrame] = {}
    decoded, start_s = 0, 0.0
    with _opened(path) as (container, stream):
        stream.thread_type = "AUTO"
        for number, frame in enumerate(container.decode(stream)):
            decoded = number + 1
            time_s = frame.time if frame.time is not None else number / float(stream.average_rate or 1)
            start_s = start_s if number else time_s
            if number in wanted:
                frames[number] = VideoFrame(
                    fit(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)), time_s - start_s
                )
            if number == max(wanted):
                break
    return frames, decoded


@contextmanager
def _opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file at its first video track; cover pictures of sound files are none.

    Raises:
        VideoError: Whatever PyAV raises until the file is closed, too.
    """
    try:
        if not path.is_file():
            raise VideoError(f"expected a video, found no file at {path}.")
        if not path.stat().st_size:
            raise VideoError(f"{path.name}: expected a video, found an empty file.")
        with av.open(str(path.resolve()), options=_LOCAL_ONLY, metadata_errors="replace") as container:
            streams = [
                each for each in container.streams.video if not each.disposition & Disposition.attached_pic
            ]
            if not streams:
                kinds = ", ".join(sorted({each.type for each in container.streams})) or "nothing"
                raise VideoError(f"{path.name}: expected a file with a video track, found {kinds} in it.")
            if getattr(streams[0], "codec_context", None) is None:  # PyAV before 18 crashes on such a track
                raise VideoError(f"{path.name}: expected a video track of a known codec, found another.")
            yield container, streams[0]
    except SaccadeError:
        raise
    except Exception as error:  # a decoder raises whatever it stumbles over
        reason = getattr(error, "strerror", None) or str(error).rstrip(".") or type(error).__name__
        raise VideoError(
            f"{path.name}: expected a video that can be read to its end, found: {reason}. Is it damaged, cut off or no "
            "video?"
        ) from error


def _duration_s(container: InputContainer, stream: VideoStream) -> float:
    """Return how long the file says that its video track lasts; 0 if it does not say."""
    if stream.duration is not None:
        return _seconds(stream.duration, stream)
    if tagged := _CLOCK.fullmatch(stream.metadata.get("DURATION", "")):  # Matroska and WebM say it so
        hours, minutes, seconds = tagged.groups()
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    if container.duration is not None and len(container.streams) == 1:
        return container.duration / av.time_base
    return 0.0


def _seconds(ticks: int | None, of: VideoStream | av.Packet[VideoStream]) -> float:
    return float(ticks * of.time_base) if ticks is not None and of.time_base is not None else 0.0
