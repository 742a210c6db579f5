"""Frames are those of the reference's own reader, and a video that is not whole is refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from saccade.proto.errors import ImageError, VideoError
from saccade.runtime.answering.video import read_video

RATE_HZ = 10
SIZE = (48, 64)
FORMATS = {
    "mp4": ("libx264", {}, {}),
    "faststart.mp4": ("libx264", {}, {"movflags": "faststart"}),
    "fragments.mp4": ("libx264", {"g": "10"}, {"movflags": "frag_keyframe+empty_moov"}),
    "mkv": ("libx264", {}, {}),
    "vp9.webm": ("libvpx-vp9", {"deadline": "realtime"}, {}),
    "vp8.webm": ("libvpx", {"auto-alt-ref": "1", "lag-in-frames": "16"}, {}),
    "ts": ("libx264", {}, {}),
    "avi": ("mpeg4", {}, {}),
}


def scene(number: int) -> NDArray[np.uint8]:
    """A grey that tells which frame it is, and a corner that is never twice the same."""
    picture = np.full((*SIZE, 3), 20 + 3 * number, np.uint8)
    picture[:8, :8] = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
    return picture


def write_video(path: Path, frames: int, *, is_slowing: bool = False, has_sound: bool = False) -> Path:
    """Write a video in the format that its name says."""
    codec, options, container_options = FORMATS[path.name.partition(".")[2]]
    with av.open(str(path), "w", options=container_options) as container:
        stream = container.add_stream(codec, rate=RATE_HZ, options=options)
        stream.height, stream.width = SIZE
        stream.pix_fmt = "yuv420p"
        if has_sound:
            write_sound(container, seconds=frames / RATE_HZ)
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(scene(number), format="rgb24")
            frame.pts = number * number if is_slowing else number
            frame.time_base = Fraction(1, RATE_HZ)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_sound(container: av.container.OutputContainer, *, seconds: float) -> None:
    rate_hz, samples = 16000, 1024
    stream = container.add_stream("libopus" if "webm" in container.format.name else "aac", rate=rate_hz)
    resampler = av.AudioResampler(stream.format, stream.layout, stream.rate)
    for number in range(int(seconds * rate_hz / samples)):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, samples), np.float32), format="fltp", layout="mono")
        frame.rate, frame.pts, frame.time_base = rate_hz, number * samples, Fraction(1, rate_hz)
        for each in resampler.resample(frame):
            container.mux(stream.encode(each))
    container.mux(stream.encode())


def spread(frames: int) -> object:
    """What transformers' video processors do by default."""
    return lambda total: [number * total // frames for number in range(frames)]


def cut(path: Path, share: float) -> Path:
    """Keep only the beginning of a file."""
    data = path.read_bytes()
    short = path.with_name(f"cut.{path.name.partition('.')[2]}")
    short.write_bytes(data[: int(share * len(data))])
    return short


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.reference
def test_frames_are_those_of_the_reference(tmp_path: Path, name: str) -> None:
    """Pixel for pixel, against transformers' own reader."""
    from transformers.video_utils import load_video

    path = write_video(tmp_path / f"video.{name}", 43)
    for count in (1, 4, 7, 43):
        found = read_video(path, spread(count))  # type: ignore[arg-type]
        chosen = [number * 43 // count for number in range(count)]
        expected, _ = load_video(
            str(path), backend="pyav", sample_indices_fn=lambda metadata, _n=chosen, **_: np.array(_n)
        )
        np.testing.assert_array_equal([frame.pixels for frame in found], expected)
        np.testing.assert_allclose([frame.time_s for frame in found], np.array(chosen) / RATE_HZ, atol=2e-3)


def test_times_are_those_of_the_file(tmp_path: Path) -> None:
    path = write_video(tmp_path / "video.mp4", 9, is_slowing=True)
    found = read_video(path, lambda _: [0, 1, 4, 8])
    np.testing.assert_allclose([frame.time_s for frame in found], [0, 0.1, 1.6, 6.4], atol=1e-3)


@pytest.mark.parametrize("name", ["mp4", "vp9.webm", "ts"])
def test_a_short_video_repeats_frames(tmp_path: Path, name: str) -> None:
    path = write_video(tmp_path / f"video.{name}", 2)
    found = read_video(path, spread(5))  # type: ignore[arg-type]
    assert [frame.time_s for frame in found] == pytest.approx([0, 0, 0, 0.1, 0.1], abs=1e-3)
    np.testing.assert_array_equal(found[0].pixels, found[2].pixels)


def test_frames_are_fitted_as_they_come_and_only_those_that_are_wanted(tmp_path: Path) -> None:
    seen: list[tuple[int, ...]] = []

    def fit(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        seen.append(pixels.shape)
        return pixels[:4, :4]

    path = write_video(tmp_path / "video.mp4", 30, has_sound=True)
    found = read_video(path, lambda total: [0, total // 2, total // 2], fit)
    assert seen == [(*SIZE, 3)] * 2
    assert [frame.pixels.shape for frame in found] == [(4, 4, 3)] * 3
    assert found[2].time_s == pytest.approx(1.5, abs=1e-3)


def test_packets_that_show_nothing_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A count that is too high is put right by what was decoded."""
    path = write_video(tmp_path / "video.mkv", 20)
    monkeypatch.setattr("saccade.runtime.answering.video._count", lambda path: 25)
    asked: list[int] = []

    def last_two(total: int) -> list[int]:
        asked.append(total)
        return [0, total - 2, total - 1]

    found = read_video(path, last_two)
    assert asked == [25, 20]
    assert [frame.time_s for frame in found] == pytest.approx([0, 1.8, 1.9], abs=1e-3)


@pytest.mark.parametrize(
    ("name", "has_sound"),
    [
        *((name, False) for name in sorted(set(FORMATS) - {"ts", "avi"})),
        *((name, True) for name in ("mp4", "faststart.mp4", "mkv", "vp9.webm")),
    ],
)
def test_a_video_that_was_cut_off_is_refused(tmp_path: Path, name: str, *, has_sound: bool) -> None:
    """What is written as it is sent (transport streams, fragments) never says how long it is; it may pass as whole."""
    path = write_video(tmp_path / f"video.{name}", 60, has_sound=has_sound)
    assert len(read_video(path, spread(3))) == 3  # type: ignore[arg-type]
    for share in (0.5, 0.7):
        with pytest.raises(VideoError, match=r"^cut\..*(cut off|damaged)"):
            read_video(cut(path, share), spread(3))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["mp4", "ts"])
def test_a_video_that_is_damaged_is_refused(tmp_path: Path, name: str) -> None:
    path = write_video(tmp_path / f"video.{name}", 60)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 200] = np.random.default_rng(0).integers(0, 256, 200, np.uint8).tobytes()
    path.write_bytes(data)
    with pytest.raises(VideoError, match="damaged"):
        read_video(path, spread(60))  # type: ignore[arg-type]


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    def refused(path: Path, message: str) -> None:
        with pytest.raises(VideoError, match=message) as found:
            read_video(path, spread(2))  # type: ignore[arg-type]
        assert found.value.code == "input.video"

    refused(tmp_path / "none.mp4", "expected a video, found no file at")
    refused(tmp_path, "expected a video, found no file at")
    for name, data, message in (
        ("empty.mp4", b"", "empty.mp4: expected a video, found an empty file"),
        ("text.mp4", b"hello", "Invalid data found"),
        ("playlist.m3u8", b"#EXTM3U\n#EXTINF:1,\nhttp://localhost:9/a.ts\n", "expected a video"),
    ):
        (tmp_path / name).write_bytes(data)
        refused(tmp_path / name, message)
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        write_sound(container, seconds=1)
    refused(tmp_path / "sound.mp4", "expected a file with a video track, found audio in it")
    refused(write_video(tmp_path / "video.mp4", 0), "expected a|Invalid data")
    path = write_video(tmp_path / "video.vp9.webm", 3)
    path.write_bytes(path.read_bytes().replace(b"V_VP9", b"V_XYZ"))
    refused(path, "expected a video track of a known codec")


@given(st.binary(max_size=300), st.sampled_from(["mp4", "vp9.webm"]), st.floats(0, 1))
def test_wild_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, name: str, where: float
) -> None:
    path = write_video(tmp_path_factory.mktemp("wild") / f"video.{name}", 4)
    whole = bytearray(path.read_bytes())
    at = int(where * len(whole))
    whole[at : at + len(data)] = data
    path.write_bytes(whole)
    try:
        found = read_video(path, spread(3))  # type: ignore[arg-type]
    except VideoError as error:
        assert path.name in error.message  # noqa: PT017 - it may be refused or not
    else:
        assert len(found) == 3


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "header only": lambda whole: whole[:16],
    "cut in the header": lambda whole: whole[:300],
    "header flipped": lambda whole: bytes(255 - byte for byte in whole[:40]) + whole[40:],
    "header gone": lambda whole: whole[200:],
    "another extension": lambda whole: whole,
    "garbage": lambda whole: np.random.default_rng(0).bytes(len(whole)),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FORMATS)
def test_a_damaged_file_is_a_video_or_the_one_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, damage: str
) -> None:
    """Warnings are errors here, and nothing is written."""
    path = tmp_path / "film.jpg"
    path.write_bytes(DAMAGES[damage](write_video(tmp_path / f"video.{name}", 12).read_bytes()))
    capfd.readouterr()  # what the encoders say
    try:
        found = read_video(path, spread(3))  # type: ignore[arg-type]
    except VideoError as error:
        assert damage != "another extension"
        assert error.message.startswith("film.jpg: expected a")  # noqa: PT017 - it may be refused or not
    else:
        assert [frame.pixels.shape for frame in found] == [(*SIZE, 3)] * 3
        assert damage not in {"header only", "garbage"}
    assert capfd.readouterr() == ("", "")


def test_whatever_is_raised_is_the_one_error_but_that_of_the_picture(tmp_path: Path) -> None:
    path = write_video(tmp_path / "video.mp4", 3)

    def raise_with(error: Exception) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
        def fit(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
            raise error

        return fit

    with pytest.raises(
        VideoError, match=r"video\.mp4: expected a video .* found: MemoryError\. Is it damaged"
    ):
        read_video(path, spread(2), raise_with(MemoryError()))  # type: ignore[arg-type]
    with pytest.raises(ImageError, match="too narrow"):
        read_video(path, spread(2), raise_with(ImageError("too narrow")))  # type: ignore[arg-type]


def test_the_runtime_needs_no_pyav_to_start() -> None:
    forbid = "import sys; sys.modules['av'] = None; from saccade.runtime.commands import ask, serve"
    assert subprocess.run([sys.executable, "-c", forbid], check=False).returncode == 0
