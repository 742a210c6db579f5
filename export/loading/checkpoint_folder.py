"""The folder of a checkpoint on its way through a reader: every file of it is opened once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from saccade.export.loading.json_fields import JsonFields, read_object
from saccade.export.loading.shards import StoredWeights
from saccade.proto.errors import CheckpointError

CONFIG_NAME = "config.json"
TOKENIZER_NAME = "tokenizer.json"


class CheckpointFolder:
    """A checkpoint's folder: configuration, weights, tokenizer and statistics files, each parsed when first asked for.

    Args:
        path: Directory that holds the files.

    Raises:
        CheckpointError: ``path`` is no directory.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise CheckpointError(f"expected a checkpoint folder, found none at {path}.")
        self.path = path
        self._objects: dict[str, dict[str, Any]] = {}

    @property
    def name(self) -> str:
        """Last part of the path, for messages."""
        return self.path.name

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def __iter__(self) -> Iterator[Path]:
        return iter(sorted(self.path.iterdir()))

    def has(self, name: str) -> bool:
        """Whether there is a file of this name."""
        return (self.path / name).is_file()

    def read(self, name: str) -> dict[str, Any]:
        """Return the object in a JSON file; do not change it, others read it too.

        Raises:
            CheckpointError: The file is missing, no JSON, or holds something else than an object.
        """
        if name not in self._objects:
            self._objects[name] = read_object(self.path, name)
        return self._objects[name]

    def fields(self, name: str, defaults: Mapping[str, object] | None = None) -> JsonFields:
        """Return the fields of a JSON file, to be read strictly.

        Args:
            name: Name of the file.
            defaults: What the class that wrote the file assumes where a field is missing.

        Raises:
            CheckpointError: The file is missing, no JSON, or holds something else than an object.
        """
        return JsonFields(self.read(name), name, defaults)

    @property
    def config(self) -> dict[str, Any]:
        """The object in ``config.json``.

        Raises:
            CheckpointError: The file is missing, no JSON, or holds something else than an object.
        """
        return self.read(CONFIG_NAME)

    @cached_property
    def weights(self) -> StoredWeights:
        """The safetensors, mapped.

        Raises:
            CheckpointError: A file is missing, truncated, or no safetensors file.
        """
        return StoredWeights(self.path)

    @property
    def tokenizer_path(self) -> Path:
        """Path of ``tokenizer.json``.

        Raises:
            CheckpointError: The folder has no ``tokenizer.json``.
        """
        if not self.has(TOKENIZER_NAME):
            raise CheckpointError(
                f"expected {TOKENIZER_NAME} in {self.name}/, found none; write it with the fast tokenizer's "
                "save_pretrained, or tokenizers' Tokenizer.save."
            )
        return self.path / TOKENIZER_NAME

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer in ``tokenizer.json``.

        Raises:
            CheckpointError: The file is missing or broken.
        """
        try:
            return Tokenizer.from_file(str(self.tokenizer_path))
        except CheckpointError:
            raise
        except Exception as error:
            raise CheckpointError(f"{TOKENIZER_NAME}: expected a tokenizer file, found: {error}.") from error
