"""What a lerobot policy's ``config.json`` says of its robot: cameras, state, action.

Source:
    lerobot 0.6.1, ``PreTrainedConfig.input_features`` and ``output_features``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.json_fields import JsonFields
from saccade.proto.errors import CheckpointError

FINE_TUNE = "fine-tune it on the robot's data (lerobot-train --policy.path=FOLDER), and take what comes out"
"""What to do with a base model."""
CAMERA_PREFIX = "observation.images."
_ABSENT = "empty_camera_"
"""Part of the name of a camera that was never there."""


@dataclass(frozen=True)
class LerobotFeatures:
    """What a policy was trained on.

    Args:
        cameras: Name, without ``observation.images.``, to height and width, pixels; in the order of the model.
        state_dim: Numbers of proprioception.
        action_dim: Numbers of an action.
    """

    cameras: Mapping[str, tuple[int, int]]
    state_dim: int
    action_dim: int

    @property
    def known(self) -> str:
        """What the checkpoint says of its robot, as a sentence for an embodiment that is still to be written."""
        return (
            f" The checkpoint has the cameras {', '.join(self.cameras) or '(none)'}, {self.state_dim} numbers of "
            f"proprioception and {self.action_dim} of an action."
        )

    def check_views(self, views: Sequence[str]) -> None:
        """Check that ``views`` are some of the cameras.

        Raises:
            CheckpointError: A name is unknown, or the views stand in another order.
        """
        known = [name for name in self.cameras if name in views]
        if not views or [*views] != known:
            raise CheckpointError(
                f"embodiment.json: views: expected some of the cameras {', '.join(self.cameras) or '(none)'}, in this "
                f"order, as in config.json: input_features, found {', '.join(views) or 'none'}."
            )

    def camera_size(self, views: Sequence[str]) -> tuple[int, int]:
        """Return the one size of the cameras ``views``.

        Raises:
            CheckpointError: A name is unknown, the views stand in another order, or their sizes differ.
        """
        self.check_views(views)
        sizes = {self.cameras[name] for name in views}
        if len(sizes) > 1:
            raise CheckpointError(
                f"config.json: input_features: expected cameras of one size, found {sorted(sizes)}; say in "
                "embodiment.json, image_size, to which they will all be brought."
            )
        return sizes.pop()


def read_features(folder: CheckpointFolder) -> LerobotFeatures:
    """Read the cameras, state and action that ``config.json`` declares.

    Raises:
        CheckpointError: A feature is missing, or is no vector or picture where one belongs.
    """
    fields = folder.fields("config.json")
    inputs = fields.child("input_features")
    cameras = {}
    for name in inputs.names():
        feature = inputs.child(name)
        if feature.take("type", str) == "VISUAL" and _ABSENT not in name:
            shape = feature.items("shape", int)
            if len(shape) != 3 or min(shape) < 1:
                raise CheckpointError(
                    f"config.json: input_features: {name}: expected a shape of 3 numbers (channels, height, width), "
                    f"found {list(shape)}."
                )
            cameras[name.removeprefix(CAMERA_PREFIX)] = (shape[1], shape[2])
    return LerobotFeatures(
        cameras,
        _vector_dim(fields, "input_features", "observation.state"),
        _vector_dim(fields, "output_features", "action"),
    )


def _vector_dim(fields: JsonFields, group: str, name: str) -> int:
    """Return the length of a feature that is a vector."""
    if not fields.child(group).has(name):
        raise CheckpointError(
            f"config.json: {group}: expected the object {name!r}, found none: a base model, which knows no robot; "
            f"{FINE_TUNE}."
        )
    shape = fields.child(group).child(name).items("shape", int)
    if len(shape) != 1:
        raise CheckpointError(
            f"config.json: {group}: {name}: expected a shape of one number, found {list(shape)}."
        )
    return shape[0]
