"""What a lerobot policy's ``config.json`` says of its robot: cameras, state, action.

Source:
    lerobot 0.6.1, ``PreTrainedConfig.input_features`` and ``output_features``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from saccade.export.loading.json_fields import JsonFields, read_object
from saccade.proto.errors import CheckpointError

CAMERA_PREFIX = "observation.images."
_ABSENT = "empty_camera_"
"""In the name of a camera that was never there."""


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

    def camera_size(self, views: Sequence[str]) -> tuple[int, int]:
        """Return the one size of the cameras ``views``.

        Raises:
            CheckpointError: A name is unknown, they stand in another order, or their sizes differ.
        """
        known = [name for name in self.cameras if name in views]
        if not views or [*views] != known:
            raise CheckpointError(
                f"embodiment.json: views: expected some of the cameras {', '.join(self.cameras) or '(none)'}, in this "
                f"order, as in config.json: input_features, found {', '.join(views) or 'none'}."
            )
        sizes = {self.cameras[name] for name in views}
        if len(sizes) > 1:
            raise CheckpointError(
                f"config.json: input_features: expected cameras of one size, found {sorted(sizes)}; say in "
                "embodiment.json, image_size, to which they will all be brought."
            )
        return sizes.pop()


def read_features(folder: Path) -> LerobotFeatures:
    """Read them.

    Raises:
        CheckpointError: Something is missing, or no vector or picture where one belongs.
    """
    fields = JsonFields(read_object(folder, "config.json"), "config.json")
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
        vector_dim(fields, "input_features", "observation.state"),
        vector_dim(fields, "output_features", "action"),
    )


def vector_dim(fields: JsonFields, group: str, name: str) -> int:
    """Return the length of a feature that is a vector.

    Raises:
        CheckpointError: It is missing, or no vector.
    """
    shape = fields.child(group).child(name).items("shape", int)
    if len(shape) != 1:
        raise CheckpointError(
            f"config.json: {group}: {name}: expected a shape of one number, found {list(shape)}."
        )
    return shape[0]
