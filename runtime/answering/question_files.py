"""Pictures and videos from files, made into what a bundle that answers was exported for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from saccade.proto.distribution import install_hint
from saccade.proto.errors import VideoError
from saccade.proto.fitted_picture import fit_picture
from saccade.proto.manifest import Manifest
from saccade.runtime.answering.answerer import answer_spec, by_view
from saccade.runtime.answering.pictures import read_picture

if TYPE_CHECKING:
    from saccade.runtime.answering.video import VideoFrame


def read_shown(
    manifest: Manifest, images: Sequence[Path], videos: Sequence[Path] = ()
) -> dict[str, NDArray[np.uint8]]:
    """Read the pictures or videos that a question is about.

    Args:
        manifest: Manifest of a bundle that answers.
        images: Picture files, one for each view; they may be the frames of a video.
        videos: Video files instead of pictures; the frames that the manifest names are taken of each.

    Returns:
        Views by name, each as :func:`saccade.proto.fitted_picture.fit_picture` makes it: uint8
        ``(pictures, height, width, 3)``.

    Raises:
        BundleError: The bundle does not answer.
        ImageError: More or fewer pictures than the bundle was exported for, or one that cannot be read or fitted.
        VideoError: More or fewer videos than the bundle was exported for, one that cannot be read or has another length
            than the model is told, a bundle that looks at pictures, or PyAV is missing.
    """
    answer, view = answer_spec(manifest), manifest.views[0]  # all views have one size

    def fit(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return fit_picture(picture, view, answer.picture_fit)

    if images and not videos:
        return {name: fit(read_picture(path)) for name, path in by_view(manifest, images).items()}
    if images:
        raise VideoError("expected pictures or videos, found both: give either --image or --video.")
    if answer.video is None:
        return _frames_of_none(manifest, videos)
    wanted = len(manifest.views) // answer.video.frames
    if len(videos) != wanted:
        raise VideoError(
            f"expected {wanted} videos, as {manifest.name!r} was exported for, found {len(videos)}: give --video."
        )
    read_video, shown = _video_reader(), []
    for path in videos:
        frames = read_video(path, answer.video.indices, fit)
        answer.video.check_times([frame.time_s for frame in frames])
        shown += [frame.pixels for frame in frames]
    return by_view(manifest, shown)


def _frames_of_none(manifest: Manifest, videos: Sequence[Path]) -> dict[str, NDArray[np.uint8]]:
    """Refuse videos for a bundle that looks at still pictures."""
    if videos:
        raise VideoError(
            f"expected pictures, as {manifest.name!r} was exported for, found {len(videos)} videos: give --image, or "
            "export it with --frames."
        )
    return by_view(manifest, [])


def _video_reader() -> Callable[..., list[VideoFrame]]:
    """Import what reads videos only where there is one.

    Raises:
        VideoError: PyAV is missing.
    """
    try:
        reader: Callable[..., list[VideoFrame]] = import_module("saccade.runtime.answering.video").read_video
    except ImportError as error:
        raise VideoError(
            f"expected PyAV to read videos, found it is not installed ({error}): {install_hint('video')}."
        ) from error
    return reader
