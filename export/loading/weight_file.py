"""Weights to a file: the one place that writes safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from saccade.proto.errors import FileError


def write_weights(weights: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write weights as safetensors.

    Args:
        weights: Contiguous tensors, by name.
        path: File to write.
        metadata: Notes for the file's header.

    Raises:
        FileError: The operating system refuses; the library says so in a sentence of its own.
    """
    try:
        save_file(dict(weights), path, metadata=dict(metadata))
    except (SafetensorError, OSError) as error:
        raise FileError(
            f"expected to write weights to {path}, found: {error}; make room, or choose another place."
        ) from error
