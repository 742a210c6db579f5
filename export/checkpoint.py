"""Reads and writes checkpoints in the family's layout, strictly: what does not fit is an error that names it.

config.json  embodiment.json  model.safetensors (or shards with an index)  tokenizer.json  statistics.json

OpenVLA-OFT as published is read too: its own files, and an embodiment.json that says what they leave open.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

from saccade.export.embodiment import Embodiment, read_embodiment, write_embodiment
from saccade.export.families.deployment import Deployment
from saccade.export.families.openvla_oft import OpenVlaOft
from saccade.export.families.openvla_oft_config import CONFIG_NAME, OftConfig, config_from_json, write_config
from saccade.export.families.openvla_oft_keys import key_rules
from saccade.export.families.openvla_oft_published import PublishedOft, check_template, read_published, scales
from saccade.export.loading.data_sets import read_data_set
from saccade.export.loading.json_fields import read_object
from saccade.export.loading.prismatic import MODEL_TYPE as PUBLISHED_TYPE
from saccade.export.loading.shards import WEIGHTS_NAME, StoredWeights
from saccade.export.loading.torch_heads import HeadedWeights
from saccade.export.loading.weights import load_weights
from saccade.proto.errors import CheckpointError
from saccade.proto.statistics import STATISTICS_NAME, Statistics

TOKENIZER_NAME = "tokenizer.json"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read and found whole.

    Args:
        path: Its folder.
        model: The model with its weights, float32, in eval mode; large ones may be mapped.
        embodiment: What its numbers mean.
        statistics: Normalisation of its data set.
        tokenizer: Path of ``tokenizer.json``.
    """

    path: Path
    model: OpenVlaOft
    embodiment: Embodiment
    statistics: Statistics
    tokenizer: Path

    @property
    def config(self) -> OftConfig:
        """The model's dimensions."""
        return self.model.config

    def write_statistics(self, file: Path) -> None:
        """Write the ``statistics.json`` of a bundle: the checkpoint's own file, if it has one."""
        own = self.path / STATISTICS_NAME
        if own.is_file():
            shutil.copyfile(own, file)
            return
        content = self.statistics.to_json(self.embodiment.statistics_key)
        file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def load_checkpoint(path: Path, *, head_step: str | None = None, mapped: bool = False) -> Checkpoint:
    """Read a checkpoint.

    Args:
        path: Its folder.
        head_step: Of a published checkpoint with heads of several training steps, which.
        mapped: Large weights stay in the files, as in :func:`load_weights`.

    Raises:
        CheckpointError: A file, key or shape is missing, left over or wrong.
        StatisticsError: The statistics lack the data set, or are broken.
    """
    if not path.is_dir():
        raise CheckpointError(f"expected a checkpoint folder, found none at {path}.")
    value = read_object(path, CONFIG_NAME)
    if value.get("model_type") == PUBLISHED_TYPE:
        return _load_published(path, head_step, mapped=mapped)
    config = config_from_json(value)
    embodiment = read_embodiment(path)
    _check_embodiment(embodiment, config)
    statistics = Statistics.read(
        _statistics_file(path),
        embodiment.statistics_key,
        action_dim=config.action_dim,
        proprio_dim=config.proprio_dim,
    )
    tokenizer = _check_tokenizer(path, config)
    model = _load_model(config, StoredWeights(path), mapped=mapped)
    return Checkpoint(path, model, embodiment, statistics, tokenizer)


def _load_published(path: Path, head_step: str | None, *, mapped: bool) -> Checkpoint:
    """Read OpenVLA-OFT as published; the embodiment says views, chunk and data set."""
    embodiment = read_embodiment(path)
    deployment = Deployment(views=len(embodiment.views), statistics_key=embodiment.statistics_key)
    published = read_published(path, deployment, chunk=embodiment.action.chunk, step=head_step)
    _check_embodiment(embodiment, published.config)
    statistics = _published_statistics(path, embodiment, published)
    tokenizer = _check_tokenizer(path, published.config)
    check_template(Tokenizer.from_file(str(tokenizer)), embodiment.template)
    model = _load_model(published.config, HeadedWeights(path, published.heads), mapped=mapped)
    return Checkpoint(path, model, embodiment, statistics, tokenizer)


def _published_statistics(path: Path, embodiment: Embodiment, published: PublishedOft) -> Statistics:
    """Read the data set's statistics: from ``statistics.json`` if it was added, else from the published file."""
    config, key = published.config, embodiment.statistics_key
    dims = {"action_dim": config.action_dim, "proprio_dim": config.proprio_dim}
    if (path / STATISTICS_NAME).is_file():
        return Statistics.read(path / STATISTICS_NAME, key, **dims)
    data_set = read_data_set(path, key)
    return Statistics.from_json({key: scales(data_set, published.robot)}, key, data_set.where, **dims)


def _load_model(config: OftConfig, weights: StoredWeights, *, mapped: bool) -> OpenVlaOft:
    with torch.device("meta"):
        model = OpenVlaOft(config)
    load_weights(model, weights, key_rules(config), mapped=mapped)
    return model.eval().requires_grad_(False)


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
    """Write a checkpoint that :func:`load_checkpoint` reads back.

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
    _check_embodiment(embodiment, model.config)
    path.mkdir(parents=True, exist_ok=True)
    write_config(model.config, path)
    write_embodiment(embodiment, path)
    (path / STATISTICS_NAME).write_text(json.dumps(dict(statistics), indent=2) + "\n", encoding="utf-8")
    if tokenizer.resolve() != (path / TOKENIZER_NAME).resolve():
        shutil.copyfile(tokenizer, path / TOKENIZER_NAME)
    weights = {key: value.detach().to(dtype).contiguous() for key, value in model.state_dict().items()}
    save_file(weights, path / WEIGHTS_NAME, metadata={"format": "pt", **(metadata or {})})
    return path


def _check_tokenizer(path: Path, config: OftConfig) -> Path:
    tokenizer = path / TOKENIZER_NAME
    if not tokenizer.is_file():
        raise CheckpointError(
            f"expected {TOKENIZER_NAME} in {path.name}/, found none; save it with tokenizers' Tokenizer.save."
        )
    try:
        last = max(Tokenizer.from_file(str(tokenizer)).get_vocab().values(), default=-1)
    except Exception as error:
        raise CheckpointError(f"{TOKENIZER_NAME}: expected a tokenizer file, found: {error}.") from error
    if last >= config.decoder.vocab_size:
        raise CheckpointError(
            f"{TOKENIZER_NAME}: expected token ids below {config.decoder.vocab_size} (rows of the embedding table), "
            f"found {last}."
        )
    return tokenizer


def _check_embodiment(embodiment: Embodiment, config: OftConfig) -> None:
    for what, found, expected in (
        ("views", len(embodiment.views), config.views),
        ("proprio", embodiment.proprio.dim, config.proprio_dim),
        ("action", embodiment.action.dim, config.action_dim),
        ("action.chunk", embodiment.action.chunk, config.chunk),
        ("limits", len(embodiment.limits.low), config.action_dim),
    ):
        if found != expected:
            raise CheckpointError(
                f"embodiment.json: {what}: expected {expected} as in {CONFIG_NAME}, found {found}."
            )
