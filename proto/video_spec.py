"""Which frames of a video a bundle looks at: data, so that the host samples as the model was trained."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from saccade.proto.errors import ImageError, ManifestError


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
        frames: Taken of each video.
        sampling: Which.

    Raises:
        ManifestError: No frames.
    """

    frames: int
    sampling: FrameSampling

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise ManifestError(f"video: expected frames >= 1, found {self.frames}.")

    def indices(self, total: int) -> tuple[int, ...]:
        """Return the numbers of the frames to take of a video of ``total`` frames, ascending.

        Raises:
            ImageError: The video has no frame.
        """
        if total < 1:
            raise ImageError(f"expected a video with frames, found {total}.")
        if self.sampling is FrameSampling.FROM_START:
            return tuple(number * total // self.frames for number in range(self.frames))
        last, parts = total - 1, max(self.frames - 1, 1)
        return tuple(number * last // parts for number in range(self.frames))
