"""The folder of a checkpoint on its way through a reader: every file of it is opened once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from saccade.export.loading import tokenizer_files
from saccade.export.loading.json_fields import JsonFields, read_object
from saccade.export.loading.lfs_pointers import refuse_pointer
from saccade.export.loading.shards import StoredWeights
from saccade.proto.errors import CheckpointError

CONFIG_NAME = "config.json"
TOKENIZER_NAME = tokenizer_files.NAME
_PREPROCESSOR, _TOKENIZER_STEP = "policy_preprocessor.json", "tokenizer_processor"
_BACKBONE = "vlm_model_name"
_HUB_SEPARATOR = "--"


class CheckpointFolder:
    """A checkpoint's folder: configuration, weights, tokenizer and statistics files, each parsed when first asked for.

    Args:
        path: Directory that holds the files.
        tokenizer: A ``tokenizer.json``, or a folder with one, in place of the checkpoint's own; None = its own.
        head_step: Training step of the heads that are read, where the checkpoint has several; None = the only one.

    Raises:
        CheckpointError: ``path`` is no directory.
    """

    def __init__(self, path: Path, tokenizer: Path | None = None, head_step: str | None = None) -> None:
        if not path.is_dir():
            raise CheckpointError(f"expected a checkpoint folder, found none at {path}.")
        self.path = path
        self.head_step = head_step
        self._given = tokenizer
        self._objects: dict[Path, dict[str, Any]] = {}

    @property
    def name(self) -> str:
        """Last part of the path, or the model's name in a cache of the Hub (``models--org--name/snapshots/...``)."""
        folder = self.path.resolve()
        kind, *parts = folder.parent.parent.name.split(_HUB_SEPARATOR)
        is_cached = folder.parent.name == "snapshots" and kind == "models" and parts
        return parts[-1] if is_cached else folder.name

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
        return self.read_at(self.path, name)

    def read_at(self, place: Path, name: str) -> dict[str, Any]:
        """Return the object in a JSON file of one of :attr:`places`; do not change it, others read it too.

        Raises:
            CheckpointError: The file is missing, no JSON, or holds something else than an object.
        """
        if place / name not in self._objects:
            self._objects[place / name] = read_object(place, name)
        return self._objects[place / name]

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

    @property
    def stated_family(self) -> str | None:
        """What ``config.json`` calls the family: transformers writes ``model_type``, lerobot ``type``.

        Raises:
            CheckpointError: There is no ``config.json``.
        """
        stated = self.config.get("model_type", self.config.get("type"))
        return stated if isinstance(stated, str) else None

    @cached_property
    def weights(self) -> StoredWeights:
        """The safetensors, mapped.

        Raises:
            CheckpointError: A file is missing, truncated, or no safetensors file.
        """
        return StoredWeights(self.path)

    @property
    def places(self) -> tuple[Path, ...]:
        """Where a tokenizer's settings may lie: the checkpoint's folder, then the tokenizer's, if it is another."""
        found = tokenizer_files.find(self._given or self.path)
        return (self.path,) if found is None or found.parent == self.path else (self.path, found.parent)

    @property
    def has_tokenizer(self) -> bool:
        """Whether a tokenizer was given, or the checkpoint has one of its own."""
        return self._given is not None or tokenizer_files.find(self.path) is not None

    def find_tokenizer(self, published: str = "") -> Path:
        """Return the path of the tokenizer: the given one, ``tokenizer.json``, or ``tokenizer/tokenizer.json``.

        Args:
            published: Model on the Hub whose tokenizer the family has, for a message; empty = the checkpoint may name
                it, or nothing does.

        Raises:
            CheckpointError: There is none, or a slow one only.
        """
        place = self.path if self._given is None else self._given
        found = tokenizer_files.find(place)
        if found is not None:
            return found
        if not place.exists():
            raise CheckpointError(
                f"--tokenizer: expected a {TOKENIZER_NAME} or a folder with one, found no {place}."
            )
        source, said = self._named_tokenizer()
        if not source and published:
            source, said = published, "as the family is published"
        raise CheckpointError(tokenizer_files.missing(place, source, said))

    @property
    def tokenizer_path(self) -> Path:
        """Path of the tokenizer, see :meth:`find_tokenizer`.

        Raises:
            CheckpointError: There is none, or a slow one only.
        """
        return self.find_tokenizer()

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, without the padding and truncation that it may have been saved with.

        Raises:
            CheckpointError: The file is missing or broken.
        """
        path = self.tokenizer_path
        refuse_pointer(path)
        try:
            found = Tokenizer.from_file(str(path))
        except Exception as error:
            raise CheckpointError(f"{path.name}: expected a tokenizer file, found: {error}.") from error
        found.no_padding()
        found.no_truncation()
        return found

    def _named_tokenizer(self) -> tuple[str, str]:
        """Return the model whose tokenizer lerobot's files name, and what names it; both empty where none does."""
        steps = self.read(_PREPROCESSOR).get("steps") if self.has(_PREPROCESSOR) else None
        for step in steps if isinstance(steps, list) else ():
            if isinstance(step, Mapping) and step.get("registry_name") == _TOKENIZER_STEP:
                settings = step.get("config")
                name = settings.get("tokenizer_name") if isinstance(settings, Mapping) else None
                if isinstance(name, str) and name:
                    return name, f"{_PREPROCESSOR} names it"
        name = self.config.get(_BACKBONE) if self.has(CONFIG_NAME) else None
        return (name, f"{CONFIG_NAME}: {_BACKBONE}") if isinstance(name, str) and name else ("", "")
