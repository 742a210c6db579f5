"""Frames are sampled as the references sample them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from transformers.video_utils import default_sample_indices_fn

from saccade.proto.errors import ImageError, ManifestError, VideoError
from saccade.proto.video_spec import FrameSampling, VideoSpec

TOTALS = (1, 2, 7, 8, 9, 30, 100, 1001)


@pytest.mark.parametrize("frames", [1, 2, 3, 8, 32])
def test_from_the_start_is_what_transformers_samples(frames: int) -> None:
    spec = VideoSpec(frames, FrameSampling.FROM_START)
    for total in TOTALS:
        found = spec.indices(total)
        assert len(found) == frames and list(found) == sorted(found) and found[-1] < total
        if total >= frames:
            video = SimpleNamespace(total_num_frames=total, fps=30.0)
            assert list(found) == default_sample_indices_fn(video, num_frames=frames).tolist()


@pytest.mark.parametrize("frames", [1, 2, 3, 8, 32])
def test_both_ends_are_what_llava_video_samples(frames: int) -> None:
    spec = VideoSpec(frames, FrameSampling.BOTH_ENDS)
    for total in TOTALS:
        expected = np.linspace(0, total - 1, frames)
        assert np.abs(np.array(spec.indices(total)) - np.floor(expected + 1e-9)).max() == 0


def test_a_video_without_frames_and_a_bundle_without_frames_are_refused() -> None:
    with pytest.raises(ImageError, match="expected a video with frames, found 0"):
        VideoSpec(4, FrameSampling.FROM_START).indices(0)
    with pytest.raises(ManifestError, match="video: expected frames >= 1, found 0"):
        VideoSpec(0, FrameSampling.FROM_START)


@pytest.mark.parametrize("length_s", [1.7, 2.0, 2.4])
def test_frames_may_come_a_little_faster_or_slower_than_the_model_is_told(length_s: float) -> None:
    spec = VideoSpec(4, FrameSampling.FROM_START, frames_per_second=2.0)
    spec.check_times([number * length_s / 4 for number in range(4)])
    VideoSpec(4, FrameSampling.FROM_START).check_times([0.0, 10.0, 20.0, 30.0])  # told nothing


@pytest.mark.parametrize("length_s", [0.5, 4.0, 60.0])
def test_a_video_of_another_length_than_the_model_is_told_is_refused(length_s: float) -> None:
    spec = VideoSpec(4, FrameSampling.FROM_START, frames_per_second=2.0)
    message = rf"expected a video of 2.00 s, .* found about {length_s:.2f} s: .* --frames-per-second"
    with pytest.raises(VideoError, match=message):
        spec.check_times([number * length_s / 4 for number in range(4)])
    with pytest.raises(ManifestError, match="frames_per_second >= 0, found -1"):
        VideoSpec(4, FrameSampling.FROM_START, -1)
