import contextlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from saccade.proto import errors
from saccade.proto.codec import decode, error_from_wire, error_to_wire, tensor_from_wire, tensor_to_wire
from saccade.proto.v1 import control_pb2 as wire

dtypes = st.sampled_from(["bool", "uint8", "int32", "int64", "float32", "float64"])
arrays = dtypes.flatmap(
    lambda dtype: npst.arrays(dtype, npst.array_shapes(min_dims=0, min_side=0, max_side=4))
)


@given(arrays)
def test_round_trip(array: np.ndarray[Any, Any]) -> None:
    message = decode(wire.Tensor, tensor_to_wire(array).SerializeToString())
    found = tensor_from_wire(message)
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)
    assert not found.flags.writeable


def test_byte_order_and_strides_of_the_sender_do_not_matter() -> None:
    array = np.arange(12, dtype=">i4").reshape(3, 4)[:, ::2].T
    found = tensor_from_wire(tensor_to_wire(array))
    assert found.dtype == np.dtype("<i4")
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("dtype", [object, "U3", "complex64", "float16", "datetime64[s]"])
def test_other_dtypes_are_refused(dtype: Any) -> None:
    with pytest.raises(errors.TensorError, match="expected a dtype of"):
        tensor_to_wire(np.zeros(2, dtype))


@given(
    dtype=st.integers(-1, 9),
    shape=st.lists(st.integers(0, 2**32 - 1), max_size=10),
    data=st.binary(max_size=32),
)
def test_wild_tensors_are_refused_before_memory_is_spent(dtype: int, shape: list[int], data: bytes) -> None:
    message = wire.Tensor(dtype=dtype, shape=shape, data=data)  # type: ignore[arg-type]
    try:
        found = tensor_from_wire(message)
    except errors.MessageError:
        return
    assert found.nbytes == len(data)
    assert found.shape == tuple(shape)


@given(st.binary(max_size=64))
def test_wild_bytes_never_escape_as_another_error(data: bytes) -> None:
    with contextlib.suppress(errors.MessageError):
        decode(wire.Observation, data)


def test_errors_survive_the_wire() -> None:
    found = error_from_wire(error_to_wire(errors.ImageError("expected, found, do"), sequence=3))
    assert type(found) is errors.ImageError
    assert found.message == "expected, found, do"
