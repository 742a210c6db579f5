"""The robot that a checkpoint was trained for: what its numbers mean. ``embodiment.json`` beside ``config.json``.

Published checkpoints leave these facts to evaluation scripts; here they are written down once, checked against the
model's dimensions, and travel into the bundle.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.proto.errors import CheckpointError, ManifestError
from saccade.proto.file_errors import read_text
from saccade.proto.manifest import ActionSpec, LimitsSpec, VectorSpec
from saccade.proto.strict_json import dump_json, from_json, parse_json

EMBODIMENT_NAME = "embodiment.json"


@dataclass(frozen=True)
class Embodiment:
    """What the numbers of a checkpoint mean.

    Args:
        name: Name of the model, e.g. ``saccade-mini``.
        license: SPDX identifier of the weights.
        views: Camera names in the order the model sees them.
        proprio: Names and units of proprioception.
        action: Names, units, chunk length, rate and convention of actions.
        limits: Bounds for the limiter, physical units.
        template: Prompt with ``{instruction}`` once; empty where the family has one of its own.
        statistics_key: Data set within the checkpoint's statistics; empty = the only one.
        image_size: Height and width of the pictures as cameras give them, pixels, where that is not what the checkpoint
            says; for families whose graph resizes.
    """

    name: str
    license: str
    views: tuple[str, ...]
    proprio: VectorSpec
    action: ActionSpec
    limits: LimitsSpec
    template: str = ""
    statistics_key: str = ""
    image_size: tuple[int, ...] = ()


def read_embodiment(folder: CheckpointFolder, known: str = "") -> Embodiment:
    """Read ``embodiment.json``.

    Args:
        folder: The checkpoint that the file lies in.
        known: What the checkpoint says of its robot, for the message where there is no such file.

    Raises:
        CheckpointError: The file is missing, or a key is unknown, missing or wrong.
    """
    if not folder.has(EMBODIMENT_NAME):
        raise CheckpointError(
            f"expected {EMBODIMENT_NAME} in {folder.name}/, found none; write down views, units, limits and "
            f"prompt of the robot there, see saccade.export.families.embodiment.{known}"
        )
    try:
        return from_json(Embodiment, parse_json(read_text(folder / EMBODIMENT_NAME)))
    except (ManifestError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{EMBODIMENT_NAME}: {error}") from error


def write_embodiment(embodiment: Embodiment, checkpoint: Path) -> Path:
    """Write ``embodiment.json`` and return its path."""
    path = checkpoint / EMBODIMENT_NAME
    path.write_text(dump_json(embodiment), encoding="utf-8")
    return path
