"""One attention block by hand, and its formula: norm, queries, keys, values, output, norm, two layers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.shape_inference import infer_shapes

TOKENS, WIDTH, INNER = 6, 32, 64
Weights = dict[str, NDArray[np.float32]]


def weights(seed: int = 0) -> Weights:
    rng = np.random.default_rng(seed)
    shapes = {
        **{f"layer.{name}": (WIDTH, WIDTH) for name in ("q", "k", "v", "o")},
        "layer.up": (WIDTH, INNER),
        "layer.down": (INNER, WIDTH),
    }
    found = {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
    for norm in ("layer.norm1", "layer.norm2"):
        found[norm] = rng.uniform(0.5, 4, WIDTH).astype(np.float32)
        found[f"{norm}.bias"] = rng.normal(size=WIDTH).astype(np.float32)
    return found


def block(values: Mapping[str, NDArray[np.float32]]) -> ir.Model:
    """The block as a graph: input ``x`` ``(1, 6, 32)``, output ``y`` of the same shape."""
    nodes = [
        ("LayerNormalization", ["x", "layer.norm1", "layer.norm1.bias"], "n1", {"axis": -1}),
        *(("MatMul", ["n1", f"layer.{name}"], name, {}) for name in ("q", "k", "v")),
        ("Transpose", ["k"], "kt", {"perm": [0, 2, 1]}),
        ("MatMul", ["q", "kt"], "logits", {}),
        ("Unsqueeze", ["logits", "one"], "heads", {}),
        ("Softmax", ["heads"], "attention", {"axis": -1}),
        ("Squeeze", ["attention", "one"], "shares", {}),
        ("MatMul", ["shares", "v"], "mixed", {}),
        ("MatMul", ["mixed", "layer.o"], "o", {}),
        ("Add", ["x", "o"], "mid", {}),
        ("LayerNormalization", ["mid", "layer.norm2", "layer.norm2.bias"], "n2", {"axis": -1}),
        ("MatMul", ["n2", "layer.up"], "up", {}),
        ("Relu", ["up"], "relu", {}),
        ("MatMul", ["relu", "layer.down"], "down", {}),
        ("Add", ["mid", "down"], "y", {}),
    ]
    constants = [numpy_helper.from_array(array, name) for name, array in values.items()]
    constants.append(numpy_helper.from_array(np.array([1], np.int64), "one"))
    shape = (1, TOKENS, WIDTH)
    graph = helper.make_graph(
        [helper.make_node(kind, read, [name], f"node_{name}", **more) for kind, read, name, more in nodes],
        "block",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return ir.from_proto(infer_shapes(model))  # captured graphs have static shapes too


def by_hand(x: NDArray[np.float32], values: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float64]:
    """What the block computes, in numpy."""

    def norm(rows: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        centred = rows - rows.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + 1e-5)
        return scaled * values[name] + values[f"{name}.bias"]

    rows = x.astype(np.float64)
    n1 = norm(rows, "layer.norm1")
    q, k, v = (n1 @ values[f"layer.{name}"] for name in ("q", "k", "v"))
    logits = np.exp(q @ k.transpose(0, 2, 1) - (q @ k.transpose(0, 2, 1)).max(axis=-1, keepdims=True))
    mid = rows + logits / logits.sum(axis=-1, keepdims=True) @ v @ values["layer.o"]
    return mid + np.maximum(norm(mid, "layer.norm2") @ values["layer.up"], 0) @ values["layer.down"]


def run(model: ir.Model, x: NDArray[np.float32], *outputs: str) -> list[NDArray[np.float32]]:
    """Run a graph in ONNX Runtime."""
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    found: list[NDArray[np.float32]] = session.run(list(outputs) or None, {"x": x})
    return found


def drawn(seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(1, TOKENS, WIDTH)).astype(np.float32)
