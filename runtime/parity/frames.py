"""What engines are compared on: recorded observations, or random ones within what the bundle says of its robot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from saccade.proto.errors import InputError
from saccade.proto.file_errors import naming
from saccade.proto.manifest import Manifest
from saccade.proto.statistics import Statistics

RECORDED, RANDOM = "recorded", "random"
_FIELDS = ("images", "proprio", "instruction")
_COARSE_PX = 8
"""Side of the squares that random pictures are made of, at most, so that patches differ as those of a scene do."""
_SHIFT_PX = 3
"""How far the scene moves from one random frame to the next, pixels."""


@dataclass(frozen=True)
class Frames:
    """Consecutive control steps of one stream.

    Args:
        images: uint8 ``(frames, views, height, width, 3)``, RGB.
        proprio: float32 ``(frames, dim)``, physical units.
        instructions: What the robot is told, a text for each frame.
        source: ``recorded`` or ``random``.
    """

    images: NDArray[np.uint8]
    proprio: NDArray[np.float32]
    instructions: tuple[str, ...]
    source: str

    def __len__(self) -> int:
        return len(self.instructions)


def random_frames(manifest: Manifest, statistics: Statistics, count: int, instruction: str) -> Frames:
    """Draw a scene of coloured squares that moves, and proprioception within the usual values; seed 0.

    Args:
        manifest: Manifest of a bundle that controls a robot, whose views are of one size.
        statistics: Scales of the bundle.
        count: How many frames.
        instruction: What the robot is told in all of them.
    """
    rng, view = np.random.default_rng(0), manifest.views[0]
    side = max(1, min(_COARSE_PX, view.height // 8, view.width // 8))
    squares = (len(manifest.views), -(-view.height // side), -(-view.width // side), 3)
    coarse = rng.integers(0, 256, squares, np.uint8)
    scene = coarse.repeat(side, axis=1).repeat(side, axis=2)[:, : view.height, : view.width]
    images = np.stack([np.roll(scene, _SHIFT_PX * frame, axis=2) for frame in range(count)])
    low, high = statistics.proprio.bounds
    proprio = rng.uniform(low, high, (count, manifest.proprio.dim)).astype(np.float32)
    return Frames(images, proprio, (instruction,) * count, RANDOM)


def read_frames(path: Path, manifest: Manifest, most: int) -> Frames:
    """Read recorded frames, as `saccade export --frames` takes them.

    Args:
        path: An ``.npz`` without pickles: ``images`` uint8 ``(frames, views, height, width, 3)``, ``proprio`` float32
            ``(frames, dim)`` in physical units, ``instruction`` text ``(frames,)``.
        manifest: Manifest of the bundle that they are for.
        most: How many of the first frames are read.

    Raises:
        InputError: The file is no recording, or is one of another robot.
        FileError: The operating system refuses to read it.
    """
    with naming(path):
        path.open("rb").close()
    try:
        with np.load(path, allow_pickle=False) as stored:
            images, proprio, instruction = (stored[field][:most] for field in _FIELDS)
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise InputError(
            f"{path.name}: expected recorded frames, an .npz with {', '.join(_FIELDS)}, found: {error}."
        ) from error
    view, count = manifest.views[0], len(instruction)
    wanted = (count, len(manifest.views), view.height, view.width, 3)
    if not count or images.dtype != np.uint8 or images.shape != wanted:
        raise InputError(
            f"{path.name}: images: expected uint8{list(wanted)}, at least one frame, found {images.dtype}"
            f"{list(images.shape)}: they are of another robot."
        )
    if proprio.shape != (count, manifest.proprio.dim):
        raise InputError(
            f"{path.name}: proprio: expected {[count, manifest.proprio.dim]}, found {list(proprio.shape)}."
        )
    return Frames(images, proprio.astype(np.float32), tuple(map(str, instruction.tolist())), RECORDED)
