"""OpenVLA-OFT as published: OpenVLA's files, heads in ``.pt`` files, and a robot that no file describes.

What follows from what:

* action and proprioception dims, blocks of the head: the shapes of the heads' weights; the statistics must agree;
* towers, decoder, token ids: ``config.json`` and ``preprocessor_config.json``, as in OpenVLA;
* views, chunk, data set: whoever deploys it. The head treats every action of a chunk alike, so that no weight tells
  how many there are: a chunk that is not given is that of the published robot set with these two dims;
* which statistics become -1 and 1: that robot set too. A robot of other dims needs ``statistics.json``, see
  :mod:`saccade.proto.statistics`.

Source:
    OpenVLA-OFT (2502.19645), moojink/openvla-oft 213c5ff: ``prismatic/vla/constants.py``, ``openvla_utils.py``. Only
    its deterministic head with proprioception; heads that denoise and towers that see the instruction (FiLM) are
    refused.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from saccade.export.families.deployment import Deployment
from saccade.export.families.openvla_oft.config import OftConfig
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.data_sets import DataSet
from saccade.export.loading.prismatic import read_prismatic
from saccade.export.loading.torch_heads import choose_step, head_steps, read_head
from saccade.proto.errors import CheckpointError

_log = logging.getLogger(__name__)

EVALUATED = 0.9
"""Share of a picture's area that every published evaluation script looks at (``center_crop``)."""
ACTION_HEAD, PROPRIO = "action_head", "proprio_projector"
_UNKNOWN_HEADS = {
    "noisy_action_projector": "a head that denoises actions",
    "vision_backbone": "towers that see the instruction (FiLM)",
}


@dataclass(frozen=True)
class RobotSet:
    """What the published code fixes for one robot.

    Args:
        name: Name of the robot, or of its data set.
        action_dim: Numbers in an action.
        proprio_dim: Numbers of proprioception.
        chunk: Actions in a chunk.
        low: Statistic whose value becomes -1.
        high: Statistic whose value becomes 1.
    """

    name: str
    action_dim: int
    proprio_dim: int
    chunk: int
    low: str
    high: str


ROBOT_SETS = (
    RobotSet("LIBERO", 7, 8, 8, "q01", "q99"),
    RobotSet("ALOHA", 14, 14, 25, "min", "max"),
    RobotSet("Bridge", 7, 7, 5, "q01", "q99"),
)


@dataclass(frozen=True)
class PublishedOft:
    """A published checkpoint without its large weights.

    Args:
        config: Configuration of the model.
        heads: Weights of the heads by our name.
        robot: The published robot set with the heads' dims; None = there is none.
    """

    config: OftConfig
    heads: Mapping[str, Tensor]
    robot: RobotSet | None


def read_published(
    folder: CheckpointFolder, deployment: Deployment, *, chunk: int | None = None, step: str | None = None
) -> PublishedOft:
    """Read a published checkpoint up to its safetensors.

    Args:
        folder: The checkpoint that is read.
        deployment: How the model will be used: views, room for the prompt.
        chunk: Actions in a chunk; None = that of the published robot set with the heads' dims.
        step: Training step of the heads, where there are several; None = the folder's, or the only one.

    Raises:
        CheckpointError: A file, field or weight is missing or wrong, or asks for what is not known here.
    """
    for head, what in _UNKNOWN_HEADS.items():
        if head_steps(folder, head):
            raise CheckpointError(
                f"{folder.name}: expected a deterministic action head and plain towers, found {head}: {what}, which "
                "nothing here runs."
            )
    heads = read_heads(folder, step)
    action_dim = _dim(heads, f"{ACTION_HEAD}.model.fc2.weight", axis=0)
    proprio_dim = _dim(heads, f"{PROPRIO}.fc1.weight", axis=1)
    robot = robot_set(action_dim, proprio_dim)
    model = read_prismatic(folder, causal=False)
    config = OftConfig(
        towers=model.towers,
        decoder=model.text.decoder,
        views=deployment.views,
        chunk=_chunk(robot, chunk, action_dim, proprio_dim),
        action_dim=action_dim,
        proprio_dim=proprio_dim,
        max_text_tokens=deployment.max_text_tokens,
        head_blocks=_head_blocks(heads),
        bos_id=model.bos_id,
        eos_id=model.eos_id,
        pad_id=model.pad_id,
        camera=deployment.image_size,
        crop=EVALUATED if deployment.crop is None else deployment.crop,
    )
    return PublishedOft(config, heads, robot)


def read_heads(folder: CheckpointFolder, step: str | None = None) -> dict[str, Tensor]:
    """Read action head and proprioception's projector, our name to weight; files of today stay mapped.

    Args:
        folder: The checkpoint that is read.
        step: Training step of the heads, where there are several; None = the folder's, or the only one.

    Raises:
        CheckpointError: A file is missing or broken, or there are several steps and ``step`` is None.
    """
    step = choose_step(folder, ACTION_HEAD, step or folder.head_step)
    return {
        f"{head}.{name}": weight
        for head in (ACTION_HEAD, PROPRIO)
        for name, weight in read_head(head_steps(folder, head)[choose_step(folder, head, step)]).items()
    }


def robot_set(action_dim: int, proprio_dim: int) -> RobotSet | None:
    """Return the published robot set with these dims, None if there is none."""
    dims = action_dim, proprio_dim
    return next((robot for robot in ROBOT_SETS if (robot.action_dim, robot.proprio_dim) == dims), None)


def scales(data_set: DataSet, robot: RobotSet | None) -> dict[str, dict[str, object]]:
    """Return the statistics of a data set as ``statistics.json`` writes them: what becomes -1 is ``q01``.

    Raises:
        CheckpointError: No published robot set says which statistics count, or those that count are missing or broken.
    """
    if robot is None:
        raise CheckpointError(
            f"{data_set.where}: expected the dims of {_known_sets()}, whose published code says which statistics "
            "become -1 and 1; write statistics.json for this robot, with those values as q01 and q99."
        )
    found = {part: data_set.bounds(part, robot.low, robot.high) for part in ("action", "proprio")}
    return {
        part: {"q01": [*bounds.low], "q99": [*bounds.high], "mask": [*bounds.mask]}
        for part, bounds in found.items()
    }


def _chunk(robot: RobotSet | None, chunk: int | None, action_dim: int, proprio_dim: int) -> int:
    """Return the chunk that was asked for, else the robot set's."""
    if robot is None:
        if chunk is None:
            raise CheckpointError(
                f"expected the dims of {_known_sets()}, found {action_dim} of action and {proprio_dim} of "
                "proprioception: say how many actions are in a chunk."
            )
        return chunk
    if chunk not in {None, robot.chunk}:
        _log.warning("a chunk of %s actions, where the published %s has %s", chunk, robot.name, robot.chunk)
    return robot.chunk if chunk is None else chunk


def _known_sets() -> str:
    return " or ".join(f"{robot.name} ({robot.action_dim}, {robot.proprio_dim})" for robot in ROBOT_SETS)


def _dim(heads: Mapping[str, Tensor], name: str, axis: int) -> int:
    weight = heads.get(name)
    if weight is None or weight.dim() != 2:
        raise CheckpointError(
            f"expected a matrix {name!r}, found {'none' if weight is None else list(weight.shape)}; the deterministic "
            "head of OpenVLA-OFT has it."
        )
    return weight.shape[axis]


def _head_blocks(heads: Mapping[str, Tensor]) -> int:
    """Return how many residual blocks the action head has."""
    matches = (re.match(rf"{ACTION_HEAD}\.model\.mlp_resnet_blocks\.(\d+)\.", name) for name in heads)
    return 1 + max((int(match[1]) for match in matches if match), default=-1)
