"""Reads and writes checkpoints in the family's layout, strictly: what does not fit is an error that names it.

    config.json  embodiment.json  model.safetensors (or shards with an index)  tokenizer.json  statistics.json

Only safetensors: a pickle can run code when it is opened.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor

from saccade.export.embodiment import Embodiment, read_embodiment, write_embodiment
from saccade.export.families.openvla_oft import OpenVlaOft
from saccade.export.families.openvla_oft_config import CONFIG_NAME, OftConfig, config_from_json, write_config
from saccade.export.families.openvla_oft_keys import canonical_key, is_unused
from saccade.proto.errors import CheckpointError
from saccade.proto.statistics import STATISTICS_NAME, Statistics

WEIGHTS_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"
TOKENIZER_NAME = "tokenizer.json"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read and found whole.

    Args:
        path: Its folder.
        model: The model with its weights, float32, in eval mode.
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


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        CheckpointError: A file, key or shape is missing, left over or wrong.
        StatisticsError: The statistics lack the data set, or are broken.
    """
    if not path.is_dir():
        raise CheckpointError(f"expected a checkpoint folder, found none at {path}.")
    config = config_from_json(_read_object(path, CONFIG_NAME))
    embodiment = read_embodiment(path)
    _check_embodiment(embodiment, config)
    statistics = Statistics.read(
        _statistics_file(path),
        embodiment.statistics_key,
        action_dim=config.action_dim,
        proprio_dim=config.proprio_dim,
    )
    tokenizer = _check_tokenizer(path, config)
    with torch.device("meta"):
        model = OpenVlaOft(config)
    weights = _read_weights(path, config, model.state_dict())
    model.load_state_dict(weights, strict=True, assign=True)
    return Checkpoint(path, model.eval().requires_grad_(False), embodiment, statistics, tokenizer)


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


def _read_weights(path: Path, config: OftConfig, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return exactly the wanted weights, float32."""
    found: dict[str, Tensor] = {}
    leftover: list[str] = []
    for stored, tensor in _stored_weights(path):
        key = canonical_key(stored)
        if key in found:
            raise CheckpointError(f"expected each weight once, found {key!r} twice; remove the older shard.")
        if key in wanted:
            found[key] = tensor
        elif not is_unused(key, config):
            leftover.append(stored)
    missing = [key for key in wanted if key not in found]
    if missing or leftover:
        raise CheckpointError(
            f"expected exactly the weights that {CONFIG_NAME} describes, found {_some('missing', missing)} and "
            f"{_some('left over', leftover)}; correct {CONFIG_NAME} or the file."
        )
    wrong = [
        f"{key} (expected {list(wanted[key].shape)}, found {list(tensor.shape)})"
        for key, tensor in found.items()
        if tensor.shape != wanted[key].shape
    ]
    if wrong:
        raise CheckpointError(f"expected the shapes that {CONFIG_NAME} gives, found {_some('wrong', wrong)}.")
    _check_finite(found)
    return {key: tensor.to(torch.float32) for key, tensor in found.items()}


def _stored_weights(path: Path) -> Iterator[tuple[str, Tensor]]:
    for shard in _shards(path):
        yield from _shard_weights(path / shard)


def _shard_weights(shard: Path) -> Iterator[tuple[str, Tensor]]:
    try:
        with safe_open(shard, framework="pt") as reader:
            for key in reader.keys():  # noqa: SIM118 -- not a dict
                yield key, reader.get_tensor(key)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{shard.name}: expected a whole safetensors file, found: {error}; copy it again."
        ) from error


def _shards(path: Path) -> list[str]:
    if (path / INDEX_NAME).is_file():
        weight_map = _read_object(path, INDEX_NAME).get("weight_map")
        if not isinstance(weight_map, dict):
            raise CheckpointError(f"{INDEX_NAME}: expected the key 'weight_map', found none.")
        shards = sorted(set(map(str, weight_map.values())))
        outside = [shard for shard in shards if Path(shard).name != shard]
        absent = [shard for shard in shards if not (path / shard).is_file()]
        if outside or absent:
            raise CheckpointError(
                f"{INDEX_NAME}: expected shards beside it, found {_some('missing', absent)} and "
                f"{_some('outside the folder', outside)}."
            )
        return shards
    if (path / WEIGHTS_NAME).is_file():
        return [WEIGHTS_NAME]
    pickles = sorted(entry.name for entry in path.iterdir() if entry.suffix in _PICKLES)
    if pickles:
        raise CheckpointError(
            f"expected {WEIGHTS_NAME}, found {', '.join(pickles)}: a pickle can run code and is never opened here. "
            "Convert it where you trust it: load it with torch.load(weights_only=True) and write it with "
            "safetensors.torch.save_file."
        )
    raise CheckpointError(f"expected {WEIGHTS_NAME} or {INDEX_NAME} in {path.name}/, found neither.")


def _read_object(path: Path, name: str) -> dict[str, Any]:
    if not (path / name).is_file():
        raise CheckpointError(f"expected {name} in {path.name}/, found none.")
    try:
        value = json.loads((path / name).read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{name}: expected JSON, found: {error}.") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{name}: expected a JSON object, found {type(value).__name__}.")
    return value


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


def _check_finite(weights: Mapping[str, Tensor]) -> None:
    broken = [key for key, tensor in weights.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise CheckpointError(f"expected finite weights, found {_some('NaN or infinite', broken)}.")


def _some(what: str, names: Iterable[str]) -> str:
    names = list(names)
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"{what}: {shown or 'none'}"
