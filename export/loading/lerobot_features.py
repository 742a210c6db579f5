"""What a lerobot policy's ``config.json`` says of its robot: cameras, state, action.

Source:
    lerobot 0.6.1, ``PreTrainedConfig.input_features`` and ``output_features``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.json_fields import JsonFields
from saccade.export.loading.lerobot_processors import PREPROCESSOR, processor_steps
from saccade.proto.errors import CheckpointError

FINE_TUNE = "fine-tune it on the robot's data (lerobot-train --policy.path=FOLDER), and take what comes out"
"""What to do with a base model."""
CAMERA_PREFIX = "observation.images."
_RENAME = "rename_observations_processor"
_CHANNELS = 3
_ABSENT = "empty_camera_"
"""Part of the name of a camera that was never there."""


@dataclass(frozen=True)
class LerobotFeatures:
    """What a policy was trained on.

    Args:
        cameras: Name, without ``observation.images.``, to height and width, pixels; in the order of the model.
        state_dim: Numbers of proprioception.
        action_dim: Numbers of an action.
        renamed: The policy's name of a camera, by the name of the robot that it was trained on, where they differ.
    """

    cameras: Mapping[str, tuple[int, int]]
    state_dim: int
    action_dim: int
    renamed: Mapping[str, str] = field(default_factory=dict)

    @property
    def known(self) -> str:
        """What the checkpoint says of its robot, as a sentence for an embodiment that is still to be written."""
        return (
            f" The checkpoint has the cameras {', '.join(self.cameras) or '(none)'}, {self.state_dim} numbers of "
            f"proprioception and {self.action_dim} of an action."
        )

    def check_views(self, views: Sequence[str], names: Mapping[str, str]) -> tuple[str, ...]:
        """Return the checkpoint's names of a robot's cameras.

        Args:
            views: The robot's names, in the order of the model.
            names: The checkpoint's name, or its feature's, by the robot's; without it, what lerobot renamed in training
                counts, else both are alike.

        Raises:
            CheckpointError: A name is unknown, or the views stand in another order.
        """
        wanted = [
            (names.get(view) or self.renamed.get(view, view)).removeprefix(CAMERA_PREFIX) for view in views
        ]
        if not wanted or wanted != [name for name in self.cameras if name in wanted]:
            raise CheckpointError(
                f"embodiment.json: views: expected some of the cameras {', '.join(self.cameras) or '(none)'}, in this "
                f"order, as in config.json: input_features, found {', '.join(wanted) or 'none'}; where the robot's are "
                'called otherwise, say which is which: "cameras": {robot\'s name: one of these}.'
            )
        return tuple(wanted)

    def camera_size(self, cameras: Sequence[str]) -> tuple[int, int]:
        """Return the one size of some cameras.

        Args:
            cameras: The checkpoint's names, from :meth:`check_views`.

        Raises:
            CheckpointError: Their sizes differ.
        """
        sizes = {self.cameras[name] for name in cameras}
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
            if len(shape) != 3 or min(shape) < 1 or shape[0] != _CHANNELS:
                raise CheckpointError(
                    f"config.json: input_features: {name}: expected a shape of 3 numbers (channels, height, width), of "
                    f"{_CHANNELS} channels, found {list(shape)}; lerobot's models take no other pictures."
                )
            cameras[name.removeprefix(CAMERA_PREFIX)] = (shape[1], shape[2])
    return LerobotFeatures(
        cameras,
        _vector_dim(fields, "input_features", "observation.state"),
        _vector_dim(fields, "output_features", "action"),
        _renamed(folder),
    )


def _renamed(folder: CheckpointFolder) -> dict[str, str]:
    """Return which of the robot's cameras the preprocessor gives another name, without ``observation.images.``."""
    names: dict[str, str] = {}
    for step in processor_steps(folder, PREPROCESSOR, _RENAME) if folder.has(PREPROCESSOR) else ():
        given = step.child("config", {}).child("rename_map", {})
        names |= {name: given.take(name, str) for name in given.names()}
    return {
        robot.removeprefix(CAMERA_PREFIX): policy.removeprefix(CAMERA_PREFIX)
        for robot, policy in names.items()
    }


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
