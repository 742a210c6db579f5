"""Pictures and videos from files, up to the answer: the frames that the manifest says, in process and from a daemon."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from saccade.proto.errors import BundleError, ImageError, VideoError
from saccade.proto.fitted_picture import fit_picture
from saccade.proto.manifest import Manifest, read_manifest
from saccade.runtime.answering.question_files import read_shown
from saccade.runtime.answering.video import read_video
from saccade.runtime.daemon import Daemon
from tests.runtime.answering.test_video import cut, write_video
from tests.runtime.servers.test_answers import TEXT, config, saccade
from tests.tiny_answerer import KEEPS, PICTURE_FIT, WORDS, tiny_answer, write_tiny_answerer

FRAMES = 4


@pytest.fixture(scope="module")
def video_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_answerer(tmp_path_factory.mktemp("bundles") / "video", frames=FRAMES, max_new_tokens=20)


@pytest.fixture(scope="module")
def watching(video_bundle: Path) -> Manifest:
    return read_manifest(video_bundle)


@pytest.fixture
def looking(tmp_path: Path) -> Manifest:
    return read_manifest(write_tiny_answerer(tmp_path / "pictures"))


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path / "kitchen.mp4", 42)


def test_frames_are_those_that_the_manifest_says(watching: Manifest, video: Path) -> None:
    shown = read_shown(watching, [], [video])
    chosen = [number * 42 // FRAMES for number in range(FRAMES)]
    expected = [frame.pixels for frame in read_video(video, lambda total: chosen)]
    assert list(shown) == [view.name for view in watching.views]
    for (_, found), frame, view in zip(shown.items(), expected, watching.views, strict=True):
        np.testing.assert_array_equal(found, fit_picture(frame, view, PICTURE_FIT))


def test_frames_may_be_pictures(watching: Manifest, tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (FRAMES, 9, 7, 3), np.uint8)
    paths = [tmp_path / f"{number}.png" for number in range(FRAMES)]
    for path, picture in zip(paths, pictures, strict=True):
        Image.fromarray(picture).save(path)
    shown = read_shown(watching, paths)
    for found, picture in zip(shown.values(), pictures, strict=True):
        np.testing.assert_array_equal(found, fit_picture(picture, watching.views[0], PICTURE_FIT))


def test_the_command_answers_about_a_video(
    tiny: Path, video_bundle: Path, watching: Manifest, video: Path
) -> None:
    frames = np.stack(list(read_shown(watching, [], [video]).values()))
    with Daemon(config(tiny, video_bundle)) as daemon:
        for profile, keep in KEEPS.items():
            expected = " ".join(WORDS[token] for token in tiny_answer(frames, TEXT, keep, 20))
            asked = [TEXT, "--video", video, "--profile", profile]
            for where in ([video_bundle], ["--daemon", daemon.address]):
                found = saccade("ask", *where, *asked)
                assert (found.exit_code, found.output.strip()) == (0, expected), found.output


def test_what_the_bundle_does_not_look_at_is_refused(
    tiny: Path, watching: Manifest, looking: Manifest, video: Path, tmp_path: Path
) -> None:
    picture = tmp_path / "table.png"
    Image.new("RGB", (5, 5)).save(picture)
    with pytest.raises(VideoError, match=r"expected pictures, as 'tiny answerer' .* 1 videos: give --image"):
        read_shown(looking, [], [video])
    with pytest.raises(ImageError, match="expected 1 pictures, as 'tiny answerer' was exported for, found 0"):
        read_shown(looking, [])
    with pytest.raises(ImageError, match=r"expected 1 pictures, .* found 2"):
        read_shown(looking, [picture] * 2)
    with pytest.raises(VideoError, match="expected pictures or videos, found both"):
        read_shown(watching, [picture], [video])
    for videos in ([], [video] * 2):
        with pytest.raises(VideoError, match=f"expected 1 videos, .* found {len(videos)}: give --video"):
            read_shown(watching, [], videos)
    with pytest.raises(ImageError, match=r"expected 4 frames, .* found 1"):
        read_shown(watching, [picture])
    with pytest.raises(VideoError, match=r"^cut\.mp4: "):
        read_shown(watching, [], [cut(video, 0.5)])
    with pytest.raises(BundleError, match="expected a bundle that answers questions"):
        read_shown(read_manifest(tiny), [picture])


def test_without_pyav_the_error_says_what_to_install(
    watching: Manifest, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "saccade.runtime.answering.video")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(VideoError, match=r"pip install 'saccade-vla\[video\]'"):
        read_shown(watching, [], [video])
