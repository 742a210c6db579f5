"""One external-data file for the graphs of all profiles: equal initialisers are stored once."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import TracebackType

import numpy as np
import onnx_ir as ir

WEIGHTS_NAME = "weights.bin"
INLINE_BYTES = 1024
"""Smaller constants stay in the graph file."""
PAGE_BYTES = 4096
LINE_BYTES = 64
LARGE_BYTES = 1 << 20


class SharedWeights:
    """Appends tensors to ``weights.bin`` and points graphs to them; a context manager.

    Large tensors start on a page, so that engines can map them; small ones on a cache line.

    Args:
        folder: Where the graph files lie.
    """

    def __init__(self, folder: Path) -> None:
        self._file = (folder / WEIGHTS_NAME).open("wb")
        self._places: dict[tuple[str, tuple[int, ...], str], tuple[int, int]] = {}

    def __enter__(self) -> SharedWeights:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def adopt(self, model: ir.Model) -> None:
        """Move the model's large initialisers into the shared file."""
        for value in model.graph.initializers.values():
            tensor = value.const_value
            if tensor is None or tensor.nbytes < INLINE_BYTES:
                continue
            array = np.ascontiguousarray(tensor.numpy())
            offset, length = self._place(array)
            value.const_value = ir.ExternalTensor(
                WEIGHTS_NAME, offset, length, tensor.dtype, shape=ir.Shape(array.shape), name=value.name or ""
            )

    def _place(self, array: np.ndarray) -> tuple[int, int]:
        """Return offset and length of the array's bytes, writing them unless they are there already."""
        content = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        key = (str(array.dtype), array.shape, hashlib.sha256(content).hexdigest())
        if key not in self._places:
            alignment = PAGE_BYTES if len(content) >= LARGE_BYTES else LINE_BYTES
            self._file.write(b"\0" * (-self._file.tell() % alignment))
            self._places[key] = (self._file.tell(), len(content))
            self._file.write(content)
        return self._places[key]
