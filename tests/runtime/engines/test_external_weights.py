from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from saccade.proto.errors import EngineError
from saccade.runtime.engines.external_weights import external_weights

CONTENT = np.arange(256, dtype=np.uint8)
NODES = [
    helper.make_node("Gather", ["table", "ids"], ["rows"]),
    helper.make_node("Gather", ["tied", "ids"], ["more"]),
    helper.make_node("MatMul", ["x", "tied"], ["y"]),
]


def stored(name: str, dtype: int = TensorProto.FLOAT, **place: str) -> TensorProto:
    tensor = TensorProto(name=name, data_type=dtype, dims=[2, 3], data_location=TensorProto.EXTERNAL)
    for key, value in ({"location": "w.bin"} | place).items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def files(*tensors: TensorProto) -> dict[str, np.ndarray]:
    graph = helper.make_graph(NODES, "weights", [], [], list(tensors))
    model = helper.make_model(graph).SerializeToString()
    return {"graphs/a.onnx": np.frombuffer(model, np.uint8), "graphs/w.bin": CONTENT}


def test_weights_are_found_where_they_lie_in_memory() -> None:
    inside = numpy_helper.from_array(np.ones(3, np.float32), "inside")
    given = files(
        stored("table", offset="64", length="24"),
        inside,
        stored("tied", TensorProto.INT64, location="./w.bin"),
    )
    table, tied = external_weights("graphs/a.onnx", given)
    assert (table.name, table.is_table, tied.name, tied.is_table) == ("table", True, "tied", False)
    np.testing.assert_array_equal(table.values, CONTENT[64:88].view(np.float32).reshape(2, 3))
    np.testing.assert_array_equal(tied.values, CONTENT[:48].view(np.int64).reshape(2, 3))
    assert np.shares_memory(table.values, CONTENT)


@pytest.mark.parametrize(
    "tensor",
    [
        stored("w", location="../w.bin"),
        stored("w", location="/graphs/w.bin/"),
        stored("w", offset="233"),
        stored("w", offset="-1"),
        stored("w", offset="many"),
        stored("w", TensorProto.STRING),
    ],
)
def test_a_weight_that_is_not_there_is_named(tensor: TensorProto) -> None:
    with pytest.raises(EngineError, match=r"expected the weight 'w', type \d and shape \[2, 3\]"):
        list(external_weights("graphs/a.onnx", files(tensor)))


def test_what_is_no_graph_is_refused() -> None:
    with pytest.raises(EngineError, match=r"expected b\.onnx to be an ONNX graph"):
        list(external_weights("b.onnx", {"b.onnx": np.frombuffer(b"not a graph", np.uint8)}))
