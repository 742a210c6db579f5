"""The robot that a checkpoint was trained for: what its numbers mean. ``embodiment.json`` beside ``config.json``.

Published checkpoints leave these facts to evaluation scripts; here they are written down once, checked against the
model's dimensions, and travel into the bundle.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from saccade.export.families.deployment import Deployment
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
            says; the graph resizes them.
        crop: Share of a picture's area that is looked at, its middle, stretched back; 1 = all of it, None = as the
            family's own evaluation has it.
        cameras: The checkpoint's name of a camera, by the name in ``views``; where both are alike, it may be left out.
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
    crop: float | None = None
    cameras: dict[str, str] = field(default_factory=dict)

    def deployment(self) -> Deployment:
        """Return what it says of how the model will be used."""
        return Deployment(
            views=len(self.views),
            image_size=(self.image_size[0], self.image_size[1]) if self.image_size else None,
            crop=self.crop,
            statistics_key=self.statistics_key or None,
        )

    def check_unnamed_cameras(self) -> None:
        """Refuse names of cameras for a checkpoint that has none.

        Raises:
            CheckpointError: The embodiment has some.
        """
        if self.cameras:
            raise CheckpointError(
                f"{EMBODIMENT_NAME}: cameras: expected none, since this checkpoint names no camera, found "
                f"{self.cameras}; leave it out and write views in the order of the training."
            )

    def check_uncropped(self, family: str) -> None:
        """Refuse a crop for a family whose own evaluation has none.

        Args:
            family: Name of the family, for the message.

        Raises:
            CheckpointError: The embodiment has a crop.
        """
        if self.crop not in {None, 1.0}:
            raise CheckpointError(
                f"{EMBODIMENT_NAME}: crop: expected none, as {family} is evaluated, found {self.crop}; leave it out."
            )

    def with_relative(self, said: tuple[bool, ...]) -> Embodiment:
        """Return the embodiment with what the checkpoint says of relative actions.

        Args:
            said: For each number of an action whether the state is added to it; empty = to none.

        Raises:
            CheckpointError: The embodiment says something else.
        """
        own = self.action.relative
        if own and list(own) != list(said or (False,) * len(own)):
            raise CheckpointError(
                f"{EMBODIMENT_NAME}: action.relative: expected {list(said) or 'none'}, as the checkpoint's processor "
                f"says, found {list(own)}; leave it out, or correct the one that the model was not trained with."
            )
        return replace(self, action=replace(self.action, relative=said))


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
        found = from_json(Embodiment, parse_json(read_text(folder / EMBODIMENT_NAME)))
    except (ManifestError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{EMBODIMENT_NAME}: {error}") from error
    _check_pictures(found)
    return found


def _check_pictures(found: Embodiment) -> None:
    """Check what the embodiment says of pictures and cameras."""
    size = found.image_size
    if size and (len(size) != 2 or min(size) < 1):
        raise CheckpointError(
            f"{EMBODIMENT_NAME}: image_size: expected height and width, found {list(size)}."
        )
    if found.crop is not None and not 0 < found.crop <= 1:
        raise CheckpointError(
            f"{EMBODIMENT_NAME}: crop: expected a share of the area above 0, at most 1, found {found.crop}."
        )
    if len(set(found.views)) < len(found.views):
        raise CheckpointError(
            f"{EMBODIMENT_NAME}: views: expected each name once, found {', '.join(found.views)}."
        )
    stray = set(found.cameras) - set(found.views)
    if stray or len(set(found.cameras.values())) < len(found.cameras):
        raise CheckpointError(
            f"{EMBODIMENT_NAME}: cameras: expected the name of a camera of the checkpoint for some of the views "
            f"{', '.join(found.views)}, each once, found {found.cameras}."
        )


def write_embodiment(embodiment: Embodiment, checkpoint: Path) -> Path:
    """Write ``embodiment.json`` and return its path."""
    path = checkpoint / EMBODIMENT_NAME
    path.write_text(dump_json(embodiment), encoding="utf-8")
    return path
