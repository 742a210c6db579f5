"""One external-data file for the graphs of all profiles: equal initialisers are stored once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np
import onnx_ir as ir
from torch import Tensor

from saccade.export.lowering.weight_tensors import WeightTensor

WEIGHTS_NAME = "weights.bin"
INLINE_BYTES = 1024
"""Bytes from which on a constant goes to the weights file; smaller ones stay in the graph file."""
PAGE_BYTES = 4096
LINE_BYTES = 64
LARGE_BYTES = 1 << 20


class _Place(NamedTuple):
    """Place of a tensor's bytes in the weights file."""

    offset: int
    length: int


class _Written(NamedTuple):
    """A parameter whose bytes are in the file; holding it keeps its identity its own."""

    parameter: Tensor
    place: _Place


class SharedWeights:
    """Appends tensors to a weights file and points graphs to them; a context manager.

    Large tensors start on a page, so that engines can map them; small ones on a cache line.

    Args:
        folder: Folder of the graph files, which gets the weights file.
        name: Name of the weights file.
    """

    def __init__(self, folder: Path, name: str = WEIGHTS_NAME) -> None:
        self._name = name
        self._file = (folder / name).open("wb")
        self._places: dict[tuple[str, tuple[int, ...], str], _Place] = {}
        self._parameters: dict[tuple[int, tuple[int, ...]], _Written] = {}

    def __enter__(self) -> SharedWeights:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def adopt(self, model: ir.Model, tell: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Move the model's large initialisers into the shared file; those that lie in a file already stay there.

        Args:
            model: Graph whose initialisers move.
            tell: Told how many bytes are done, and how many there are in all.
        """
        moved = [
            (value, tensor)
            for value in model.graph.initializers.values()
            if (tensor := value.const_value) is not None
            and tensor.nbytes >= INLINE_BYTES
            and not isinstance(tensor, ir.ExternalTensor)
        ]
        done, total = 0, sum(tensor.nbytes for _, tensor in moved)
        for value, tensor in moved:
            place = self._place(tensor)
            value.const_value = ir.ExternalTensor(
                self._name,
                *place,
                tensor.dtype,
                shape=ir.Shape(tensor.shape.numpy()),
                name=value.name or "",
            )
            done += tensor.nbytes
            tell(done, total)

    def _place(self, tensor: ir.TensorProtocol) -> _Place:
        """Return where a tensor's bytes lie; a weight that another profile brought is not read again."""
        if not isinstance(tensor, WeightTensor):
            return self._write(tensor.tobytes(), (str(tensor.dtype), tuple(tensor.shape.numpy())))
        key = (id(tensor.parameter), tensor.axes)
        if key not in self._parameters:
            self._parameters[key] = _Written(tensor.parameter, self._write_array(tensor.numpy()))
        return self._parameters[key].place

    def _write_array(self, values: np.ndarray) -> _Place:
        array = np.ascontiguousarray(values)
        content = array.astype(array.dtype.newbyteorder("<"), copy=False).reshape(-1).view(np.uint8).data
        return self._write(content, (str(array.dtype), array.shape))

    def _write(self, content: bytes | memoryview, kind: tuple[str, tuple[int, ...]]) -> _Place:
        """Return where a tensor's bytes lie, writing them unless they are there already."""
        key = (*kind, hashlib.sha256(content).hexdigest())
        if key not in self._places:
            alignment = PAGE_BYTES if len(content) >= LARGE_BYTES else LINE_BYTES
            self._file.write(b"\0" * (-self._file.tell() % alignment))
            self._places[key] = _Place(self._file.tell(), len(content))
            self._file.write(content)
        return self._places[key]
