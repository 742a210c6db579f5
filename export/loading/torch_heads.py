"""Heads that a published checkpoint keeps beside its safetensors, as ``<head>--<step>_checkpoint.pt``.

A ``.pt`` file is a pickle, which can run code when it is opened. Only :func:`read_head` opens one, and only with
``weights_only``: tensors and the containers around them, nothing else; whatever needs more is refused unread.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from zipfile import is_zipfile

import torch
from torch import Tensor

from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.lfs_pointers import refuse_pointer
from saccade.export.loading.shards import StoredWeights
from saccade.proto.errors import CheckpointError

_HEAD = re.compile(r"(\w+)--(\w+)_checkpoint\.pt")
"""Name of a head's file: head and training step."""


def head_steps(folder: CheckpointFolder, head: str) -> dict[str, Path]:
    """Return the files of a head: training step (or ``latest``) to path, in order of their names."""
    matches = ((_HEAD.fullmatch(entry.name), entry) for entry in folder)
    return {match[2]: entry for match, entry in matches if match is not None and match[1] == head}


def check_head_step(folder: CheckpointFolder) -> None:
    """Refuse a choice of heads for a checkpoint that has none in files of their own.

    Raises:
        CheckpointError: A step was chosen, and there is no head.
    """
    if folder.head_step is not None and not any(_HEAD.fullmatch(entry.name) for entry in folder):
        raise CheckpointError(
            f"--head-step: expected heads in {folder.name}/, <head>--{folder.head_step}_checkpoint.pt, found none; "
            "leave it out."
        )


def choose_step(folder: CheckpointFolder, head: str, step: str | None) -> str:
    """Return the training step of which a head is read.

    Args:
        folder: The checkpoint that the head belongs to.
        head: Name of the head, e.g. ``action_head``.
        step: The training step, where there are several; None = the only one.

    Raises:
        CheckpointError: The head has no file, none of that step, or several and ``step`` is None.
    """
    steps = head_steps(folder, head)
    if not steps:
        raise CheckpointError(
            f"expected {head}--<step>_checkpoint.pt in {folder.name}/, found none; copy it from the published "
            "checkpoint. One that was trained without it cannot be run here."
        )
    if step is None and len(steps) > 1:
        raise CheckpointError(
            f"expected one {head}--<step>_checkpoint.pt in {folder.name}/, found steps {', '.join(steps)}; choose one "
            "(--head-step)."
        )
    chosen = next(iter(steps)) if step is None else step
    if chosen not in steps:
        raise CheckpointError(f"{head}: expected a step of {', '.join(steps)}, found {chosen!r}.")
    return chosen


def read_head(path: Path) -> dict[str, Tensor]:
    """Read a head's weights; a data-parallel prefix ``module.`` is dropped.

    Args:
        path: The ``.pt`` file.

    Raises:
        CheckpointError: The file is broken, holds anything but tensors under names, or a name for a second time.
    """
    refuse_pointer(path)
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))
    except Exception as error:
        raise CheckpointError(
            f"{path.name}: expected a file of tensors and nothing else, found one that is broken or would run code; "
            "nothing of it was run. Copy it again, or write its state_dict, tensors only, where you trust it."
        ) from error
    if not isinstance(stored, Mapping):
        raise CheckpointError(f"{path.name}: expected names and tensors, found {type(stored).__name__}.")
    weights: dict[str, Tensor] = {}
    for name, value in stored.items():
        if not (isinstance(name, str) and isinstance(value, Tensor) and value.layout == torch.strided):
            raise CheckpointError(
                f"{path.name}: expected names and dense tensors, found {name!r}: {type(value).__name__}."
            )
        plain = re.sub(r"^(module\.)+", "", name)
        if plain in weights:
            raise CheckpointError(f"{path.name}: expected each weight once, found {plain!r} twice.")
        weights[plain] = value
    return weights


class HeadedWeights(StoredWeights):
    """The safetensors of a checkpoint and the weights of its heads, as one.

    Args:
        folder: The checkpoint that is read.
        heads: Weights of the heads by our name, already read.

    Raises:
        CheckpointError: A safetensors file is missing, truncated or broken, or a weight is in the safetensors and in a
            head.
    """

    def __init__(self, folder: CheckpointFolder, heads: Mapping[str, Tensor]) -> None:
        super().__init__(folder.path)
        self._heads = heads
        both = [name for name in super().__iter__() if name in heads]
        if both:
            raise CheckpointError(f"expected each weight once, found {both[0]!r} in two files.")

    def __iter__(self) -> Iterator[str]:
        yield from super().__iter__()
        yield from self._heads

    def __len__(self) -> int:
        return super().__len__() + len(self._heads)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a weight's shape."""
        return tuple(self._heads[name].shape) if name in self._heads else super().shape(name)

    def read(self, name: str) -> Tensor:
        """Return a weight as it is stored."""
        return self._heads[name] if name in self._heads else super().read(name)
