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
from safetensors.torch import save_file
from tokenizers import Tokenizer

from saccade.export.families.checkpoint import TOKENIZER_NAME, Checkpoint, check_embodiment, check_tokenizer
from saccade.export.families.deployment import Deployment
from saccade.export.families.embodiment import Embodiment, read_embodiment, write_embodiment
from saccade.export.families.openvla_oft.config import (
    CONFIG_NAME,
    FAMILY,
    OftConfig,
    config_from_json,
    write_config,
)
from saccade.export.families.openvla_oft.keys import key_rules
from saccade.export.families.openvla_oft.model import OpenVlaOft
from saccade.export.families.openvla_oft.published import PublishedOft, read_published, scales
from saccade.export.loading.data_sets import read_data_set
from saccade.export.loading.json_fields import read_object
from saccade.export.loading.prismatic import MODEL_TYPE as PUBLISHED_TYPE
from saccade.export.loading.prismatic import check_template
from saccade.export.loading.shards import WEIGHTS_NAME, StoredWeights
from saccade.export.loading.torch_heads import HeadedWeights
from saccade.export.loading.weights import load_weights
from saccade.export.steps.step_of import SINGLE_PASS
from saccade.proto.errors import CheckpointError
from saccade.proto.instruction_spec import InstructionSpec, TextStep
from saccade.proto.statistics import STATISTICS_NAME, Statistics


def load(path: Path, *, head_step: str | None = None) -> Checkpoint[OpenVlaOft]:
    """Read a checkpoint.

    Args:
        path: Its folder.
        head_step: Of a published checkpoint with heads of several training steps, which.

    Raises:
        CheckpointError: A file, key or shape is missing, left over or wrong.
        StatisticsError: The statistics lack the data set, or are broken.
    """
    value = read_object(path, CONFIG_NAME)
    if value.get("model_type") == PUBLISHED_TYPE:
        return _load_published(path, head_step)
    config = config_from_json(value)
    embodiment = read_embodiment(path)
    _check_dims(embodiment, config)
    statistics = Statistics.read(
        _statistics_file(path),
        embodiment.statistics_key,
        action_dim=config.action_dim,
        proprio_dim=config.proprio_dim,
    )
    return _checkpoint(path, config, StoredWeights(path), embodiment, statistics)


def _load_published(path: Path, head_step: str | None) -> Checkpoint[OpenVlaOft]:
    """Read OpenVLA-OFT as published; the embodiment says views, chunk and data set."""
    embodiment = read_embodiment(path)
    if not embodiment.statistics_key and not (path / STATISTICS_NAME).is_file():
        embodiment = replace(embodiment, statistics_key=read_data_set(path, None).name)
    deployment = Deployment(views=len(embodiment.views), statistics_key=embodiment.statistics_key)
    published = read_published(path, deployment, chunk=embodiment.action.chunk, step=head_step)
    _check_dims(embodiment, published.config)
    statistics = _published_statistics(path, embodiment, published)
    tokenizer = check_tokenizer(path, published.config.decoder.vocab_size)
    check_template(Tokenizer.from_file(str(tokenizer)), embodiment.template)
    weights = HeadedWeights(path, published.heads)
    checkpoint = _checkpoint(path, published.config, weights, embodiment, statistics)
    instruction = replace(checkpoint.instruction, steps=(TextStep.LOWER_CASE,))
    return replace(checkpoint, instruction=instruction)


def _checkpoint(
    path: Path, config: OftConfig, weights: StoredWeights, embodiment: Embodiment, statistics: Statistics
) -> Checkpoint[OpenVlaOft]:
    tokenizer = check_tokenizer(path, config.decoder.vocab_size)
    with torch.device("meta"):
        model = OpenVlaOft(config)
    load_weights(model, weights, key_rules(config), mapped=True)
    return Checkpoint(
        path=path,
        family=FAMILY,
        model=model.eval().requires_grad_(False),
        kind=SINGLE_PASS,
        embodiment=embodiment,
        statistics=statistics,
        tokenizer=tokenizer,
        instruction=InstructionSpec(
            TOKENIZER_NAME, embodiment.template, config.max_text_tokens, config.pad_id
        ),
    )


def _published_statistics(path: Path, embodiment: Embodiment, published: PublishedOft) -> Statistics:
    """Read the data set's statistics: from ``statistics.json`` if it was added, else from the published file."""
    config, key = published.config, embodiment.statistics_key
    dims = {"action_dim": config.action_dim, "proprio_dim": config.proprio_dim}
    if (path / STATISTICS_NAME).is_file():
        return Statistics.read(path / STATISTICS_NAME, key, **dims)
    data_set = read_data_set(path, key)
    return Statistics.from_json({key: scales(data_set, published.robot)}, key, data_set.where, **dims)


def _statistics_file(path: Path) -> Path:
    file = path / STATISTICS_NAME
    if not file.is_file():
        raise CheckpointError(
            f"expected {STATISTICS_NAME} in {path.name}/, found none; copy the data set statistics that the model was "
            f"trained with (OpenVLA: dataset_statistics.json)."
        )
    return file


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
    """Write a checkpoint that :func:`load` reads back.

    Args:
        model: The model.
        path: Its folder, made if missing.
        embodiment: What its numbers mean.
        statistics: Content of ``statistics.json``.
        tokenizer: A ``tokenizer.json`` to copy.
        metadata: Notes stored in the safetensors header, e.g. seed and step.
        dtype: Of the stored weights; they are read back as float32.

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
    save_file(weights, path / WEIGHTS_NAME, metadata={"format": "pt", **(metadata or {})})
    return path


def _check_dims(embodiment: Embodiment, config: OftConfig) -> None:
    check_embodiment(
        embodiment,
        views=config.views,
        proprio_dim=config.proprio_dim,
        chunk=config.chunk,
        action_dim=config.action_dim,
    )
