"""What layouts of published checkpoints have in common: bf16, shards with an index, files beside the weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:{0:064x}\nsize 4974351984\n"


class Layout(NamedTuple):
    """How a published checkpoint lies on disk.

    Args:
        base: Name of the checkpoint that it is a variant of.
        change: Makes the layout of a copy of that; returns what a user would give, if it is not the folder itself.
        asked: How it is deployed where it answers: arguments of ``Deployment``; empty = it acts.
    """

    base: str
    change: Callable[[Path], object]
    asked: Mapping[str, Any] = MappingProxyType({})


def as_it_is(folder: Path) -> None:
    """Change nothing."""


class Bases:
    """Checkpoints that layouts are variants of, each written when it is asked for the first time.

    Args:
        root: Folder for them; a layout gets a copy.
        writers: Name of a checkpoint to what writes it into an empty folder.
    """

    def __init__(self, root: Path, writers: Mapping[str, Callable[[Path], object]]) -> None:
        self._root, self._writers = root, writers

    def copy(self, name: str, folder: Path) -> Path:
        """Copy a checkpoint into ``folder`` and return that."""
        base = self._root / name
        if not base.is_dir():
            base.mkdir(parents=True)
            self._writers[name](base)
        return Path(shutil.copytree(base, folder, dirs_exist_ok=True))


def write_weights(folder: Path, weights: Mapping[str, Tensor], shards: int = 1) -> None:
    """Write weights in bfloat16, whole or in shards with an index, as ``save_pretrained`` names them."""
    half = {name: weight.detach().to(torch.bfloat16).contiguous().clone() for name, weight in weights.items()}
    if shards == 1:
        save_file(half, folder / "model.safetensors", metadata={"format": "pt"})
        return
    where = {}
    for number in range(shards):
        name = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        shard = dict(list(half.items())[number::shards])
        save_file(shard, folder / name, metadata={"format": "pt"})
        where |= dict.fromkeys(shard, name)
    size = sum(weight.nbytes for weight in half.values())
    write_json(
        folder, "model.safetensors.index.json", {"metadata": {"total_size": size}, "weight_map": where}
    )


def rewrite_weights(
    folder: Path, rename: Callable[[str], str | None] = lambda name: name, *, shards: int = 1, **more: Tensor
) -> None:
    """Write a folder's weights again in bfloat16, under other names; None drops one, ``more`` are added."""
    found: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        found |= load_file(file)
        file.unlink()
    (folder / "model.safetensors.index.json").unlink(missing_ok=True)
    named = {new: weight for name, weight in found.items() if (new := rename(name)) is not None}
    write_weights(folder, {**named, **more}, shards)


def write_json(folder: Path, name: str, content: Mapping[str, Any]) -> None:
    """Write a JSON file as transformers does."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def edit(folder: Path, name: str = "config.json", /, **changes: Any) -> None:
    """Change fields of a JSON file; None removes one."""
    stored = json.loads((folder / name).read_text(encoding="utf-8"))
    stored.update(changes)
    write_json(folder, name, {key: value for key, value in stored.items() if value is not None})


def remove(folder: Path, *patterns: str) -> None:
    """Remove files and folders by pattern."""
    for pattern in patterns:
        for entry in sorted(folder.glob(pattern)):
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def beside(folder: Path, *names: str) -> None:
    """Write files that are there and not read: model card, code, attributes."""
    (folder / "README.md").write_text("---\nlicense: mit\n---\n\n# A model\n", encoding="utf-8")
    for name in (".gitattributes", *names):
        (folder / name).write_text("# not read\n", encoding="utf-8")


def point_to_lfs(folder: Path, *patterns: str) -> None:
    """Put pointers in the place of files, as a clone without ``git lfs`` has them."""
    for pattern in patterns:
        for number, entry in enumerate(sorted(folder.glob(pattern))):
            entry.write_text(LFS.format(number), encoding="utf-8")
