"""numpy arrays and errors to wire messages and back, with every size checked before memory is spent."""

from __future__ import annotations

from math import prod
from typing import Any, TypeVar

import numpy as np
from google.protobuf.message import DecodeError, Message
from numpy.typing import NDArray

from saccade.proto.errors import MessageError, SaccadeError, TensorError, error_from_code
from saccade.proto.v1 import control_pb2 as wire

MAX_REPLY_BYTES = 64 << 20
"""Largest message that a client accepts; a daemon accepts what its bundles need, see ``max_message_bytes``."""
MAX_AXES = 8
GRPC_ERROR_METADATA = "saccade-error-bin"
"""Trailing metadata that carries a serialised Error beside a gRPC status."""

_DTYPES = {
    wire.DTYPE_BOOL: np.dtype("bool"),
    wire.DTYPE_UINT8: np.dtype("uint8"),
    wire.DTYPE_INT32: np.dtype("<i4"),
    wire.DTYPE_INT64: np.dtype("<i8"),
    wire.DTYPE_FLOAT32: np.dtype("<f4"),
    wire.DTYPE_FLOAT64: np.dtype("<f8"),
}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}

GRPC_HTTP2_FRAMES = (("grpc.http2.max_frame_size", 1 << 24), ("grpc.http2.lookahead_bytes", 1 << 24))
"""Channel options for both ends: an observation goes out in one HTTP/2 frame instead of dozens."""

GRPC_KEEPALIVE = (
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 4_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 4_000),
)
"""Channel options for both ends: a peer that lost power or network is noticed within ten seconds."""

M = TypeVar("M", bound=Message)


def tensor_to_wire(array: NDArray[Any]) -> wire.Tensor:
    """Copy ``array`` into a message.

    Args:
        array: An array of any shape.

    Raises:
        TensorError: The array has a dtype that the wire does not have, such as object.
    """
    dtype = array.dtype.newbyteorder("<")
    if dtype not in _CODES:
        raise TensorError(f"expected a dtype of {[str(known) for known in _CODES]}, found {array.dtype}.")
    return wire.Tensor(dtype=_CODES[dtype], shape=array.shape, data=array.astype(dtype, copy=False).tobytes())


def tensor_from_wire(message: wire.Tensor) -> NDArray[Any]:
    """Take an array out of a message; read-only. Protocol Buffers copies the bytes once, numpy does not.

    Args:
        message: Dtype, shape and raw little-endian data.

    Raises:
        MessageError: The dtype is unknown, there are too many axes, or shape and data do not fit.
    """
    dtype = _DTYPES.get(message.dtype)
    shape = tuple(message.shape)
    if dtype is None or len(shape) > MAX_AXES:
        raise MessageError(
            f"expected a known dtype and at most {MAX_AXES} axes, found dtype {message.dtype} and {len(shape)} axes."
        )
    data = message.data
    if prod(shape) * dtype.itemsize != len(data):
        raise MessageError(
            f"expected {prod(shape) * dtype.itemsize} bytes for {dtype}{list(shape)}, found {len(data)}."
        )
    try:
        return np.frombuffer(data, dtype=dtype).reshape(shape)
    except ValueError as error:  # an axis of length 0 among axes whose product overflows
        raise MessageError(f"expected a shape that an array can have, found {list(shape)}.") from error


def decode(kind: type[M], data: bytes) -> M:
    """Parse a serialised message.

    Args:
        kind: Type of the message.
        data: The serialised message.

    Raises:
        MessageError: The bytes are no message of that kind.
    """
    try:
        message: M = kind.FromString(data)
    except (DecodeError, UnicodeDecodeError) as error:  # the latter from the implementation in Python
        raise MessageError(
            f"expected a serialised {kind.DESCRIPTOR.full_name}, found other bytes."
        ) from error
    return message


def error_to_wire(error: SaccadeError, *, sequence: int = 0) -> wire.Error:
    """Describe ``error`` for the other side.

    Args:
        error: What was raised.
        sequence: Number of the observation that it concerns; 0 = none.
    """
    return wire.Error(code=error.code, message=error.message, sequence=sequence)


def error_from_wire(message: wire.Error) -> SaccadeError:
    """Rebuild the error that the other side raised."""
    return error_from_code(message.code, message.message)
