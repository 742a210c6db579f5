"""Reads and writes checkpoints of OpenVLA-OFT, strictly: what does not fit is an error that names it.

config.json  embodiment.json  model.safetensors (or shards with an index)  tokenizer.json  statistics.json

OpenVLA-OFT as published is read too: its own files, and an embodiment.json that says what they leave open.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from saccade.export.families.checkpoint import Checkpoint, check_embodiment, check_tokenizer
from saccade.export.families.deployment import Deployment
from saccade.export.families.embodiment import Embodiment, read_embodiment, write_embodiment
from saccade.export.families.openvla_oft.config import FAMILY, OftConfig, config_from_json, write_config
from saccade.export.families.openvla_oft.model import OpenVlaOft, build, key_rules
from saccade.export.families.openvla_oft.published import (
    ACTION_HEAD,
    PublishedOft,
    read_heads,
    read_published,
    scales,
)
from saccade.export.families.reader import ActingReader, StatedDeployment, UsualDeployment, stated_name
from saccade.export.loading import prismatic
from saccade.export.loading.checkpoint_folder import TOKENIZER_NAME, CheckpointFolder
from saccade.export.loading.data_sets import read_data_set
from saccade.export.loading.shards import WEIGHTS_NAME, StoredWeights
from saccade.export.loading.torch_heads import HeadedWeights, head_steps
from saccade.export.loading.weight_file import write_weights
from saccade.export.loading.weights import load_weights
from saccade.proto.errors import CheckpointError
from saccade.proto.instruction_spec import InstructionSpec, TextStep
from saccade.proto.statistics import STATISTICS_NAME, Statistics


def read_config(folder: CheckpointFolder, deployment: Deployment) -> OftConfig:
    """Read the configuration of a checkpoint of either kind.

    Args:
        folder: The checkpoint that is read.
        deployment: How the model will be used; a checkpoint of our own layout says all of it itself.

    Raises:
        CheckpointError: A file or field is missing or wrong, or asks for what is not known here.
    """
    if is_published(folder):
        return read_published(folder, deployment, chunk=deployment.chunk).config
    own = config_from_json(folder.config)
    return replace(own, camera=deployment.image_size, crop=deployment.crop or own.crop)


def is_published(folder: CheckpointFolder) -> bool:
    """Whether a checkpoint lies as OpenVLA-OFT's authors publish it, instead of in our own layout."""
    return stated_name(folder) == prismatic.MODEL_TYPE


def load(folder: CheckpointFolder, *, head_step: str | None = None) -> Checkpoint[OpenVlaOft]:
    """Read a checkpoint of OpenVLA-OFT, in our own layout or as published.

    Args:
        folder: The checkpoint that is read.
        head_step: Training step of the heads, where a published checkpoint has several; None = the folder's, or the
            only one.

    Raises:
        CheckpointError: A file, key or shape is missing, left over or wrong.
        StatisticsError: The statistics lack the data set, or are broken.
    """
    if is_published(folder):
        return _load_published(folder, head_step)
    embodiment = read_embodiment(folder)
    embodiment.check_unnamed_cameras()
    config = read_config(folder, embodiment.deployment())
    _check_dims(embodiment, config)
    statistics = Statistics.read(
        _statistics_file(folder),
        embodiment.statistics_key,
        action_dim=config.action_dim,
        proprio_dim=config.proprio_dim,
    )
    return _checkpoint(folder, config, folder.weights, embodiment, statistics)


def _load_published(folder: CheckpointFolder, head_step: str | None) -> Checkpoint[OpenVlaOft]:
    """Read OpenVLA-OFT as published; the embodiment says views, chunk and data set."""
    embodiment = read_embodiment(folder)
    embodiment.check_unnamed_cameras()
    if not embodiment.template:
        embodiment = replace(embodiment, template=prismatic.PROMPT)
    if not embodiment.statistics_key and not folder.has(STATISTICS_NAME):
        embodiment = replace(embodiment, statistics_key=read_data_set(folder, None).name)
    published = read_published(folder, embodiment.deployment(), chunk=embodiment.action.chunk, step=head_step)
    _check_dims(embodiment, published.config)
    statistics = _published_statistics(folder, embodiment, published)
    check_tokenizer(folder, published.config.decoder.vocab_size)
    prismatic.check_template(folder.tokenizer, embodiment.template)
    weights = HeadedWeights(folder, published.heads)
    checkpoint = _checkpoint(folder, published.config, weights, embodiment, statistics)
    instruction = replace(checkpoint.instruction, steps=(TextStep.LOWER_CASE,))
    return replace(checkpoint, instruction=instruction)


def _checkpoint(
    folder: CheckpointFolder,
    config: OftConfig,
    weights: StoredWeights,
    embodiment: Embodiment,
    statistics: Statistics,
) -> Checkpoint[OpenVlaOft]:
    tokenizer = check_tokenizer(folder, config.decoder.vocab_size)
    model = READER.construct(config)
    load_weights(model, weights, key_rules(config), mapped=True)
    return Checkpoint(
        path=folder.path,
        family=FAMILY,
        model=model.eval().requires_grad_(False),
        embodiment=embodiment,
        statistics=statistics,
        tokenizer=tokenizer,
        instruction=InstructionSpec(
            TOKENIZER_NAME, embodiment.template, config.max_text_tokens, config.pad_id
        ),
    )


def _published_statistics(
    folder: CheckpointFolder, embodiment: Embodiment, published: PublishedOft
) -> Statistics:
    """Read the data set's statistics: from ``statistics.json`` if it was added, else from the published file."""
    config, key = published.config, embodiment.statistics_key
    dims = {"action_dim": config.action_dim, "proprio_dim": config.proprio_dim}
    if folder.has(STATISTICS_NAME):
        return Statistics.read(folder / STATISTICS_NAME, key, **dims)
    data_set = read_data_set(folder, key)
    return Statistics.from_json({key: scales(data_set, published.robot)}, key, data_set.where, **dims)


def _statistics_file(folder: CheckpointFolder) -> Path:
    if not folder.has(STATISTICS_NAME):
        raise CheckpointError(
            f"expected {STATISTICS_NAME} in {folder.name}/, found none; copy the data set statistics that the model "
            f"was trained with (OpenVLA: dataset_statistics.json)."
        )
    return folder / STATISTICS_NAME


def save_checkpoint(
    model: OpenVlaOft,
    path: Path,
    *,
    embodiment: Embodiment,
    statistics: Mapping[str, Any],
    tokenizer: Path,
    metadata: Mapping[str, str] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """Write a checkpoint that can be loaded again.

    Args:
        model: Model whose weights are written.
        path: Folder of the checkpoint, made if missing.
        embodiment: Robot that the model was trained for: what its numbers mean.
        statistics: Content of ``statistics.json``.
        tokenizer: A ``tokenizer.json`` to copy.
        metadata: Notes stored in the safetensors header, e.g. seed and step.
        dtype: Type of the stored weights; they are read back as float32.

    Raises:
        CheckpointError: Embodiment and model disagree.
    """
    _check_dims(embodiment, model.config)
    path.mkdir(parents=True, exist_ok=True)
    write_config(model.config, path)
    write_embodiment(embodiment, path)
    (path / STATISTICS_NAME).write_text(json.dumps(dict(statistics), indent=2) + "\n", encoding="utf-8")
    if tokenizer.resolve() != (path / TOKENIZER_NAME).resolve():
        shutil.copyfile(tokenizer, path / TOKENIZER_NAME)
    weights = {key: value.detach().to(dtype).contiguous() for key, value in model.state_dict().items()}
    write_weights(weights, path / WEIGHTS_NAME, {"format": "pt", **(metadata or {})})
    return path


def _check_dims(embodiment: Embodiment, config: OftConfig) -> None:
    check_embodiment(
        embodiment,
        views=config.views,
        proprio_dim=config.proprio_dim,
        chunk=config.chunk,
        action_dim=config.action_dim,
    )


def _claims(folder: CheckpointFolder) -> bool:
    """Whether a checkpoint is of OpenVLA-OFT; OpenVLA shares the published ``model_type``, but has no action heads."""
    if is_published(folder):
        return bool(head_steps(folder, ACTION_HEAD))
    return stated_name(folder) == FAMILY


def _stored_weights(folder: CheckpointFolder) -> StoredWeights:
    return HeadedWeights(folder, read_heads(folder)) if is_published(folder) else folder.weights


def _stated(folder: CheckpointFolder) -> StatedDeployment:
    if is_published(folder):
        return StatedDeployment()
    config = config_from_json(folder.config)
    return StatedDeployment(config.views, config.max_text_tokens)


READER = ActingReader(
    name=FAMILY,
    read_config=read_config,
    build=build,
    key_rules=key_rules,
    load=load,
    claims=_claims,
    classes=("OpenVLAForActionPrediction",),
    stored_weights=_stored_weights,
    stated=_stated,
    usual=UsualDeployment(views=2, text_tokens=Deployment.max_text_tokens),
)
