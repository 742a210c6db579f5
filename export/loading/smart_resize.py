"""Qwen-VL's rule for the size that a picture is resized to: whole visual tokens, near its aspect, within a budget."""

from __future__ import annotations

import math

from saccade.proto.errors import ExportError

MOST_ELONGATED = 200
"""Longest side over shortest, at most."""


def smart_resize(height: int, width: int, *, factor: int, least: int, most: int) -> tuple[int, int]:
    """Return height and width of a picture after resizing.

    Args:
        height: Height of the picture as it comes, pixels.
        width: Width of the picture as it comes, pixels.
        factor: Side of a visual token, pixels; both results are multiples of it.
        least: Fewest pixels of the result.
        most: Most pixels of the result, unless one row of visual tokens is more.

    Raises:
        ExportError: The picture is too elongated.

    Source:
        ``smart_resize`` of transformers' Qwen2-VL image processor, which Qwen2.5-VL and Qwen3-VL use too.
    """
    return _fitted(height, width, frames=(1, 1), factor=factor, budget=(least, most))


def smart_resize_video(
    frames: int, height: int, width: int, *, patch_frames: int, factor: int, least: int, most: int
) -> tuple[int, int]:
    """Return height and width of a video's frames after resizing, where the budget is the whole video's.

    Args:
        frames: Frames of the video; at least ``patch_frames``.
        height: Height of a frame as it comes, pixels.
        width: Width of a frame as it comes, pixels.
        patch_frames: Frames of one patch.
        factor: Side of a visual token, pixels; both results are multiples of it.
        least: Fewest pixels of all frames together.
        most: Most pixels of all frames together, unless one row of visual tokens is more.

    Raises:
        ExportError: There are too few frames, or the frames are too elongated.

    Source:
        ``smart_resize`` of transformers' Qwen3-VL video processor.
    """
    if frames < patch_frames:
        raise ExportError(
            f"expected at least {patch_frames} frames, found {frames}; deploy with frames=0 for a still picture."
        )
    if height < factor or width < factor:
        scale = max(factor / height, factor / width)
        height, width = int(height * scale), int(width * scale)
    rounded = round(frames / patch_frames) * patch_frames
    return _fitted(height, width, frames=(frames, rounded), factor=factor, budget=(least, most))


def _fitted(
    height: int, width: int, *, frames: tuple[int, int], factor: int, budget: tuple[int, int]
) -> tuple[int, int]:
    """Return the size; ``frames`` are counted as they are for the scale, rounded for the check."""
    if max(height, width) > MOST_ELONGATED * min(height, width):
        raise ExportError(
            f"expected pictures at most {MOST_ELONGATED} times as long as wide, found {width}x{height}; crop them."
        )
    counted, rounded = frames
    least, most = budget
    down, across = (round(side / factor) * factor for side in (height, width))
    if rounded * down * across > most:
        scale = math.sqrt(counted * height * width / most)
        down, across = (max(factor, math.floor(side / scale / factor) * factor) for side in (height, width))
    elif rounded * down * across < least:
        scale = math.sqrt(least / (counted * height * width))
        down, across = (math.ceil(side * scale / factor) * factor for side in (height, width))
    return down, across
