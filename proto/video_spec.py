"""Which frames of a video a bundle looks at: data, so that the host samples as the model was trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from saccade.proto.errors import ImageError, ManifestError, VideoError


class FrameSampling(str, Enum):
    """Which frames are taken, evenly spaced; a video of fewer frames than are wanted repeats some."""

    FROM_START = "from_start"
    """Frame ``i * total // frames``: the first of each of equally long parts (transformers' video processors)."""
    BOTH_ENDS = "both_ends"
    """``linspace`` from the first to the last frame, rounded down (the LLaVA-Video repository)."""


@dataclass(frozen=True)
class VideoSpec:
    """How one video becomes the views of a question; several videos follow each other in the bundle's views.

    Args:
        frames: How many frames are taken of each video.
        sampling: Which frames are taken.
        frames_per_second: How many frames a second the model is told that they are; 0 = it is told no times, and a
            video may be of any length.

    Raises:
        ManifestError: There are no frames, or a rate below 0.
    """

    frames: int
    sampling: FrameSampling
    frames_per_second: float = 0.0

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise ManifestError(f"video: expected frames >= 1, found {self.frames}.")
        if self.frames_per_second < 0:
            raise ManifestError(f"video: expected frames_per_second >= 0, found {self.frames_per_second}.")

    def indices(self, total: int) -> tuple[int, ...]:
        """Return the numbers of the frames to take of a video of ``total`` frames, ascending.

        Args:
            total: How many frames the video has.

        Raises:
            ImageError: The video has no frame.
        """
        if total < 1:
            raise ImageError(f"expected a video with frames, found {total}.")
        if self.sampling is FrameSampling.FROM_START:
            return tuple(number * total // self.frames for number in range(self.frames))
        last, parts = total - 1, max(self.frames - 1, 1)
        return tuple(number * last // parts for number in range(self.frames))

    def check_times(self, times_s: Sequence[float]) -> None:
        """Check that the frames taken of a video come as fast as the model is told.

        Args:
            times_s: When each frame taken is shown, seconds since the first frame of the video, ascending.

        Raises:
            VideoError: A frame lies a step or more from its time.
        """
        rate = self.frames_per_second
        if rate and any(abs(time_s * rate - number) >= 1 for number, time_s in enumerate(times_s)):
            found_s = times_s[-1] * self.frames / max(self.frames - 1, 1)
            raise VideoError(
                f"expected a video of {self.frames / rate:.2f} s, for the model is told that its {self.frames} frames "
                f"come {rate:g} a second, found about {found_s:.2f} s: cut it to that length, or export with other "
                "--frames or --frames-per-second."
            )
