"""A decoder layer with RMSNorms by hand: words and projected tokens, a policy's reader, a head with LayerNorm."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.shape_inference import infer_shapes

TOKENS, WIDTH, INNER, WORDS = 6, 24, 48, 3
NORMS = ("norm1", "norm2", "final")


def _norm(x: str, name: str) -> list[tuple[str, list[str], str, dict[str, object]]]:
    return [
        ("Pow", [x, "two"], f"{name}.power", {}),
        ("ReduceMean", [f"{name}.power", "last"], f"{name}.mean", {"keepdims": 1}),
        ("Add", [f"{name}.mean", "epsilon"], f"{name}.sum", {}),
        ("Sqrt", [f"{name}.sum"], f"{name}.root", {}),
        ("Div", [x, f"{name}.root"], f"{name}.divided", {}),
        ("Mul", [f"{name}.divided", f"{name}.weight"], name, {}),
    ]


def decoder(readers: int = 1, width: int = WIDTH, *, seed: int = 0) -> ir.Model:
    """The layer as a graph: inputs ``x`` ``(1, 6, width)`` and ``ids`` ``(1, 3)``; outputs ``y`` and ``score``.

    Args:
        readers: How many things read the stream that are no norm.
        width: Channels.
        seed: Seed of the weights.
    """
    rng = np.random.default_rng(seed)

    def drawn(*shape: int) -> NDArray[np.float32]:
        return rng.normal(0, 0.3, shape).astype(np.float32)

    constants: Mapping[str, NDArray[np.generic]] = {
        **{name: drawn(width, width) for name in ("project", "q", "k", "v", "o", "head")},
        "project.bias": drawn(width),
        "table": drawn(20, width),
        "begin": drawn(1, 1, width),
        "up": drawn(width, INNER),
        "down": drawn(INNER, width),
        **{f"{name}.weight": rng.uniform(0.5, 4, width).astype(np.float32) for name in NORMS},
        "head.norm": rng.uniform(0.5, 2, width).astype(np.float32),
        "two": np.float32(2),
        "epsilon": np.float32(1e-6),
        "last": np.array([-1], np.int64),
        "rows": np.array([7, 0, 5], np.int64),
    }
    nodes = [
        ("MatMul", ["x", "project"], "projected", {}),
        ("Add", ["projected", "project.bias"], "seen", {}),
        ("Gather", ["table", "ids"], "words", {"axis": 0}),
        ("Concat", ["begin", "seen", "words"], "stream", {"axis": 1}),
        *_norm("stream", "norm1"),
        *(("MatMul", ["norm1", name], f"{name}.out", {}) for name in ("q", "k", "v")),
        ("Transpose", ["k.out"], "turned", {"perm": [0, 2, 1]}),
        ("MatMul", ["q.out", "turned"], "logits", {}),
        ("Softmax", ["logits"], "shares", {"axis": -1}),
        ("MatMul", ["shares", "v.out"], "mixed", {}),
        ("MatMul", ["mixed", "o"], "o.out", {}),
        ("Add", ["stream", "o.out"], "middle", {}),
        ("Gather", ["middle", "rows"], "kept", {"axis": 1}),
        *_norm("kept", "norm2"),
        ("MatMul", ["norm2", "up"], "up.out", {}),
        ("Relu", ["up.out"], "relu", {}),
        ("MatMul", ["relu", "down"], "down.out", {}),
        ("Add", ["kept", "down.out"], "end", {}),
        *_norm("end", "final"),
        ("LayerNormalization", ["final", "head.norm"], "normed", {"axis": -1}),
        ("MatMul", ["normed", "head"], "y", {}),
        *(
            ("Abs", [["stream", "middle", "kept", "end"][each]], f"read.{each}", {})
            for each in range(readers)
        ),
        ("Sum", [f"sum.{each}" for each in range(readers)], "score", {}),
    ]
    sums = [("ReduceSum", [f"read.{each}"], f"sum.{each}", {"keepdims": 0}) for each in range(readers)]
    nodes[-1:-1] = sums
    graph = helper.make_graph(
        [helper.make_node(kind, read, [name], f"node_{name}", **more) for kind, read, name, more in nodes],
        "decoder",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, TOKENS, width)),
            helper.make_tensor_value_info("ids", TensorProto.INT64, (1, WORDS)),
        ],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 3, width)),
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ()),
        ],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return ir.from_proto(infer_shapes(model))


def run(model: ir.Model, *outputs: str, seed: int = 0) -> list[NDArray[np.float32]]:
    """Run a graph of :func:`decoder` in ONNX Runtime on numbers of a seed."""
    rng = np.random.default_rng(seed)
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    shape = next(each.shape for each in session.get_inputs() if each.name == "x")
    feeds = {"x": rng.normal(size=shape).astype(np.float32), "ids": rng.integers(0, 20, (1, WORDS))}
    found: list[NDArray[np.float32]] = session.run(list(outputs) or None, feeds)
    return found
