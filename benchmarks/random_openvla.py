"""An OpenVLA checkpoint in the published layout with random weights, written shard by shard."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor

from benchmarks.random_oft import Shape, write_configuration, write_tokenizer
from benchmarks.random_weights import write_shards
from saccade.export.families.deployment import Deployment
from saccade.export.families.embodiment import read_embodiment, write_embodiment
from saccade.export.families.openvla.model import build, read_config
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.data_sets import DATA_SETS_NAME
from saccade.proto.manifest import ActionSpec, VectorSpec
from saccade.proto.statistics import STATISTICS_NAME

_VOCABULARY, _BINS = 32000, 255


def write_random_openvla(folder: Path, shape: Shape, *, seed: int = 0) -> Path:
    """Write the checkpoint, bfloat16: a camera, no proprioception, seven tokens an action.

    Args:
        folder: Folder of the checkpoint, made here.
        shape: Sizes that differ from the published model's.
        seed: Seed of the weights.
    """
    folder.mkdir(parents=True)
    write_configuration(folder, shape)
    write_tokenizer(folder)
    scales = json.loads((folder / STATISTICS_NAME).read_text())
    (folder / STATISTICS_NAME).unlink()
    (folder / DATA_SETS_NAME).write_text(json.dumps(scales))
    robot = read_embodiment(CheckpointFolder(folder))
    action: ActionSpec = replace(robot.action, chunk=1)
    write_embodiment(replace(robot, action=action, proprio=VectorSpec((), ()), template=""), folder)
    deployment = Deployment(views=1, statistics_key=robot.statistics_key)
    model = build(read_config(CheckpointFolder(folder), deployment))
    shapes = ((name, tuple(weight.shape)) for name, weight in model.state_dict().items())
    rng = np.random.Generator(np.random.SFC64(seed))
    write_shards(folder, shapes, shape.shard_bytes, rng, change=_say_actions)
    return folder


def _say_actions(name: str, weight: Tensor) -> None:
    """Leave no other token a score, or every answer would be the words nearest to the first action token."""
    if name.endswith("lm_head.weight"):
        weight[: _VOCABULARY - _BINS] = 0
