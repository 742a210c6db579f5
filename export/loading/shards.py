"""The weight files of a checkpoint: safetensors, whole or in shards, mapped into memory and read one by one.

Only safetensors: a pickle can run code when it is opened.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from saccade.export.loading.json_fields import read_object
from saccade.export.loading.lfs_pointers import refuse_pointer
from saccade.proto.errors import CheckpointError

WEIGHTS_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_NO_MODEL = re.compile(
    r"(optimizer|scheduler|scaler|rng_state|random_states|training_args|trainer_state|metadata|adapter_model)\b.*"
    r"|non_lora_.*"
    r"|.*--\w+_checkpoint\.pt|.*(rng_state|random_states|optim_states)_.*"
)
"""Pickles that trainings leave beside the weights: nobody should convert them."""


class StoredWeights:
    """The weights of a checkpoint under the names they are stored with.

    Args:
        folder: Directory of the checkpoint.

    Raises:
        CheckpointError: A file is missing, truncated or no safetensors file, holds a name for a second time, or lacks
            what the index lists.
    """

    def __init__(self, folder: Path) -> None:
        self._readers: dict[str, Any] = {}
        index = folder / INDEX_NAME
        listed = _listed(folder) if index.is_file() else None
        for shard in sorted(set(listed.values())) if listed is not None else [_whole(folder)]:
            reader = _opened(folder / shard)
            for name in reader.keys():  # noqa: SIM118 -- not a dict
                if name in self._readers:
                    raise CheckpointError(
                        f"expected each weight once, found {name!r} in {shard} and in an earlier shard; remove the "
                        "older one."
                    )
                self._readers[name] = reader
        if listed is not None:
            absent = [name for name in listed if name not in self._readers]
            if absent:
                raise CheckpointError(
                    f"{INDEX_NAME}: expected in the shards what it lists, found {some('missing', absent)}; copy the "
                    "shards again."
                )

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a weight's shape; nothing is read."""
        return tuple(self._readers[name].get_slice(name).get_shape())

    def read(self, name: str) -> Tensor:
        """Return a weight as it is stored; its memory is the file's until it is written to."""
        tensor: Tensor = self._readers[name].get_tensor(name)
        return tensor


def has_weights(folder: Path) -> bool:
    """Whether a folder has weights of a model, in whichever format."""
    if (folder / WEIGHTS_NAME).is_file() or (folder / INDEX_NAME).is_file():
        return True
    return any(entry.suffix in _PICKLES and not _NO_MODEL.fullmatch(entry.name) for entry in folder.iterdir())


def some(what: str, names: Iterable[str]) -> str:
    """Return the first few of many names, and how many more there are."""
    names = list(names)
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"{what}: {shown or 'none'}"


def _opened(shard: Path) -> Any:
    refuse_pointer(shard)
    try:
        return safe_open(shard, framework="pt")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{shard.name}: expected a whole safetensors file, found: {error}; copy it again."
        ) from error


def _listed(folder: Path) -> dict[str, str]:
    """Return name to shard from the index."""
    listed = read_object(folder, INDEX_NAME).get("weight_map")
    if not isinstance(listed, dict):
        raise CheckpointError(f"{INDEX_NAME}: expected the key 'weight_map', found none.")
    shards = sorted(set(map(str, listed.values())))
    outside = [shard for shard in shards if Path(shard).name != shard]
    absent = [shard for shard in shards if not (folder / shard).is_file()]
    if outside or absent:
        raise CheckpointError(
            f"{INDEX_NAME}: expected shards beside it, found {some('missing', absent)} and "
            f"{some('outside the folder', outside)}."
        )
    return {str(name): str(shard) for name, shard in listed.items()}


def _whole(folder: Path) -> str:
    """Return the name of the one weight file."""
    if (folder / WEIGHTS_NAME).is_file():
        return WEIGHTS_NAME
    pickles = sorted(
        entry.name
        for entry in folder.iterdir()
        if entry.suffix in _PICKLES and not _NO_MODEL.fullmatch(entry.name)
    )
    if pickles:
        raise CheckpointError(
            f"expected {WEIGHTS_NAME}, found {', '.join(pickles)}: a pickle can run code and is never opened here. "
            "Convert it where you trust it: load it with torch.load(weights_only=True) and write it with "
            "safetensors.torch.save_file."
        )
    raise CheckpointError(
        f"expected {WEIGHTS_NAME} or {INDEX_NAME} in {folder.name}/, found neither; copy the weights of the published "
        "checkpoint, which are *.safetensors there."
    )
