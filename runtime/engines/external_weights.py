"""The weights that an ONNX file points to, found in memory: no library for ONNX, and nothing is read from disk."""

from __future__ import annotations

import hashlib
import math
import posixpath
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from saccade.proto.errors import EngineError
from saccade.proto.v1.graph_pb2 import OnnxGraph, OnnxModel, OnnxTensor

_DTYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
}
"""numpy's name of each ``TensorProto.DataType``."""
_PACKED = {21: "uint4", 22: "int4"}
"""Types of which two numbers share a byte, and that numpy does not have."""
_LOOK_UP = "Gather"


class Weight(NamedTuple):
    """One weight of a graph.

    Args:
        name: What the graph calls it.
        values: Its numbers, where they lie in the weights file; of a packed one its bytes, uint8 ``(bytes,)``.
        is_table: Whether rows of it are looked up, and nothing else is done with it.
        type_number: Its ``TensorProto.DataType``.
        shape: Length of each axis.
    """

    name: str
    values: NDArray[np.generic]
    is_table: bool
    type_number: int
    shape: tuple[int, ...]

    @property
    def is_packed(self) -> bool:
        """Whether two of its numbers share a byte."""
        return self.type_number in _PACKED


def external_weights(graph: str, files: Mapping[str, NDArray[np.uint8]]) -> Iterator[Weight]:
    """Find the weights of a graph that lie in other files.

    Args:
        graph: Name of the ONNX file.
        files: Content of all files by name.

    Raises:
        EngineError: The file is no graph, or points to what is not there.
    """
    model = _read(graph, files)
    tables = _tables(model.graph)
    for tensor in _outside(model):
        values = _values(tensor, graph, files)
        yield Weight(tensor.name, values, tensor.name in tables, tensor.data_type, tuple(tensor.dims))


def graph_sha256(graph: str, files: Mapping[str, NDArray[np.uint8]], known: dict[str, str]) -> str:
    """Return the hash of a graph together with the files that its weights lie in.

    Args:
        graph: Name of the ONNX file.
        files: Content of all files by name.
        known: Hashes of weights files by name; those that are missing are added, so that each is hashed once.

    Raises:
        EngineError: The file is no graph, or points to what is not there.
    """
    digest = hashlib.sha256(files[graph].data)
    for tensor in _outside(_read(graph, files)):
        _values(tensor, graph, files)
        name, _ = _place(tensor, graph)
        if name not in known:
            known[name] = hashlib.sha256(files[name].data).hexdigest()
        digest.update(f"{tensor.name} {known[name]}".encode())
    return digest.hexdigest()


def _read(graph: str, files: Mapping[str, NDArray[np.uint8]]) -> OnnxModel:
    try:
        model: OnnxModel = OnnxModel.FromString(files[graph].tobytes())
    except DecodeError as error:
        raise EngineError(
            f"expected {graph} to be an ONNX graph, found: {error}: export it again."
        ) from error
    return model


def _outside(model: OnnxModel) -> Iterator[OnnxTensor]:
    """Yield the weights that lie in other files."""
    for tensor in model.graph.initializer:
        if tensor.data_location == OnnxTensor.IN_ANOTHER_FILE:
            yield tensor


def _place(tensor: OnnxTensor, graph: str) -> tuple[str, dict[str, str]]:
    """Return the name of the file that a weight lies in, and what else the graph says of its place."""
    place = {entry.key: entry.value for entry in tensor.external_data}
    return posixpath.normpath(posixpath.join(posixpath.dirname(graph), place.get("location", ""))), place


def _tables(graph: OnnxGraph) -> set[str]:
    """Return the names of what only look-ups read, and those as what they look into."""
    first: set[str] = set()
    other: set[str] = set()
    for node in graph.node:
        looked_up = node.input[:1] if node.op_type == _LOOK_UP else []
        first.update(looked_up)
        other.update(node.input[len(looked_up) :])
    return first - other


def _values(tensor: OnnxTensor, graph: str, files: Mapping[str, NDArray[np.uint8]]) -> NDArray[np.generic]:
    name, place = _place(tensor, graph)
    is_packed = tensor.data_type in _PACKED
    dtype = np.dtype("uint8" if is_packed else _DTYPES.get(tensor.data_type, "V"))
    numbers = math.prod(tensor.dims)
    offset, count = place.get("offset", "0"), -(-numbers // 2) if is_packed else numbers * dtype.itemsize
    start = int(offset) if offset.isdecimal() else -1
    content = files.get(name)
    if content is None or not dtype.itemsize or not 0 <= start <= start + count <= len(content):
        raise EngineError(
            f"expected the weight {tensor.name!r}, type {tensor.data_type} and shape {list(tensor.dims)}, at byte "
            f"{offset} of {name}, found none there: export the bundle again."
        )
    values: NDArray[np.generic] = content[start : start + count].view(dtype)
    values = values if is_packed else values.reshape(tuple(tensor.dims))
    return np.require(values, requirements=["C", "A"])
