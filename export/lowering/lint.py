"""The portability lint: would TensorRT 10.3 (JetPack 6, opset 20) take this graph, and run it well?

A finding fails the export. Notes are counted in the receipt: legal, but worth a look on a hot path.

Source:
    onnx-tensorrt's operator table for 10.1 and the TensorRT 10 operator pages; TensorRT itself was not run here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from saccade.export.lowering.rewriting import MODULE
from saccade.proto.errors import ReceiptError

MAX_TOP_K = 3840
LINTED_OPSET = 20

PORTABLE_OPS = frozenset(
    (
        "Abs",
        "Add",
        "And",
        "ArgMax",
        "ArgMin",
        "Cast",
        "Ceil",
        "Clip",
        "Concat",
        "Constant",
        "ConstantOfShape",
        "Conv",
        "Cos",
        "CumSum",
        "Div",
        "Einsum",
        "Equal",
        "Erf",
        "Exp",
        "Expand",
        "Flatten",
        "Floor",
        "Gather",
        "GatherElements",
        "GatherND",
        "Gelu",
        "Gemm",
        "Greater",
        "GreaterOrEqual",
        "Identity",
        "IsNaN",
        "LayerNormalization",
        "Less",
        "LessOrEqual",
        "Log",
        "MatMul",
        "Max",
        "Min",
        "Mod",
        "Mul",
        "Neg",
        "Not",
        "Or",
        "Pad",
        "Pow",
        "Range",
        "Reciprocal",
        "ReduceL2",
        "ReduceMax",
        "ReduceMean",
        "ReduceMin",
        "ReduceProd",
        "ReduceSum",
        "Relu",
        "Reshape",
        "Round",
        "ScatterElements",
        "ScatterND",
        "Sigmoid",
        "Sign",
        "Sin",
        "Slice",
        "Softmax",
        "Split",
        "Sqrt",
        "Squeeze",
        "Sub",
        "Tanh",
        "Tile",
        "TopK",
        "Transpose",
        "Trilu",
        "Unsqueeze",
        "Where",
        "Xor",
    )
)
_WHY = {
    "NonZero": "its output size depends on data, which breaks static engines and CUDA graphs",
    "Unique": "its output size depends on data",
    "Compress": "its output size depends on data",
    "Loop": "its length must be a constant; every shape is static",
    "Scan": "unroll it; every shape is static",
    "If": "choose with Where; a profile is chosen by the host",
    "Shape": "every shape is static; fold it",
    "Attention": "it appeared after opset 20; use the primitive form",
}
_ONE_PARAMETER = (
    *("TopK", "Reshape", "Expand", "Squeeze", "Unsqueeze", "Tile", "Pad", "Split", "CumSum"),
    *("ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum"),
)
_CONSTANT_INPUTS = {
    **dict.fromkeys(_ONE_PARAMETER, slice(1, 2)),
    "Slice": slice(1, None),
    "Range": slice(0, None),
    "ConstantOfShape": slice(0, None),
}
"""The inputs of an operator that decide shapes or axes, and so must be known when an engine is built."""
_ARITHMETIC = {
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Mod",
    "CumSum",
    "ReduceSum",
    "ReduceMax",
    "ReduceMin",
    "Neg",
    "Min",
    "Max",
}


@dataclass(frozen=True)
class LintReceipt:
    """What the lint saw in one graph.

    Args:
        opset: Opset of the standard domain.
        nodes: Number of nodes.
        ops: Number of nodes of each operator, most frequent first.
        int64_arithmetic: Number of nodes of each operator that calculates on int64 tensors; index arithmetic, legal but
            slow on GPU.
        inputs: ``name dtype[shape]`` of each graph input.
        outputs: ``name dtype[shape]`` of each graph output.
    """

    opset: int
    nodes: int
    ops: dict[str, int]
    int64_arithmetic: dict[str, int]
    inputs: list[str]
    outputs: list[str]


def lint(model: ir.Model, where: str) -> LintReceipt:
    """Check one graph.

    Args:
        model: Graph that is checked.
        where: Name of the graph, for messages.

    Raises:
        ReceiptError: The graph is not what TensorRT 10.3 takes; all findings are in the message.
    """
    findings = [*_global_findings(model)]
    for node in model.graph:
        findings += [
            f"{node.op_type} {node.name!r}{_made_by(node)}: {finding}" for finding in _node_findings(node)
        ]
    if findings:
        shown = "\n  ".join(findings[:20])
        more = f"\n  ... and {len(findings) - 20} more" if len(findings) > 20 else ""
        raise ReceiptError(f"{where}: expected a graph that TensorRT 10.3 takes, found:\n  {shown}{more}")
    ops = Counter(node.op_type for node in model.graph)
    int64 = Counter(node.op_type for node in model.graph if _is_int64_arithmetic(node))
    return LintReceipt(
        opset=model.graph.opset_imports[""],
        nodes=ops.total(),
        ops=dict(ops.most_common()),
        int64_arithmetic=dict(int64.most_common()),
        inputs=[_describe(value) for value in model.graph.inputs],
        outputs=[_describe(value) for value in model.graph.outputs],
    )


def _global_findings(model: ir.Model) -> Iterator[str]:
    opset = model.graph.opset_imports.get("")
    if opset != LINTED_OPSET:
        yield f"opset {opset}; expected {LINTED_OPSET}"
    for domain in model.graph.opset_imports:
        if domain not in ("", "ai.onnx"):
            yield f"operator domain {domain!r}; expected the standard domain only"
    if model.functions:
        yield f"{len(model.functions)} local functions; expected them inlined"
    for value in model.graph.inputs:
        yield from (f"input {finding}" for finding in _value_findings(value))
    for value in model.graph.initializers.values():
        yield from (f"weight {finding}" for finding in _value_findings(value))


def _made_by(node: ir.Node) -> str:
    """Name the module that a node is of, where it is known: rewriting makes nodes of its own."""
    module = node.meta.get(MODULE)
    return f" of module {module!r}" if module else ""


def _node_findings(node: ir.Node) -> Iterator[str]:
    if node.domain not in ("", "ai.onnx"):
        yield f"domain {node.domain!r}; expected the standard domain"
    elif _is_constant_loop(node):
        for inner in node.attributes.get_graph("body"):
            yield from (f"in its body, {inner.op_type}: {finding}" for finding in _node_findings(inner))
        return
    elif node.op_type not in PORTABLE_OPS:
        yield _WHY.get(node.op_type, "not an operator that TensorRT 10.3 reads at opset 20")
    if any(attribute.type == ir.AttributeType.GRAPH for attribute in node.attributes.values()):
        yield "has a subgraph; expected straight-line code"
    for value in node.outputs:
        yield from _value_findings(value)
    yield from _input_findings(node)
    if node.op_type == "TopK":
        yield from _top_k_findings(node)


def _is_constant_loop(node: ir.Node) -> bool:
    """Whether a node is a Loop that runs a known number of times: the same as straight-line code, written short."""
    ends = node.inputs[:2]
    return node.op_type == "Loop" and all(end is not None and end.const_value is not None for end in ends)


def _input_findings(node: ir.Node) -> Iterator[str]:
    parameters = node.inputs[_CONSTANT_INPUTS.get(node.op_type, slice(0))]
    if any(value is not None and value.const_value is None for value in parameters):
        yield "a shape parameter is computed at run time; expected a constant"
    for value in node.inputs:
        if value is None or value.dtype != ir.DataType.UINT8:
            continue
        if node.op_type != "Cast" or not value.is_graph_input():
            yield "reads uint8; TensorRT takes uint8 only at the graph's entry, straight into Cast"


def _value_findings(value: ir.Value) -> Iterator[str]:
    if value.shape is None or not value.shape.is_static():
        yield f"{value.name!r} has shape {value.shape}; expected a static one"
    if value.dtype == ir.DataType.DOUBLE:
        yield f"{value.name!r} is float64; expected float32"


def _top_k_findings(node: ir.Node) -> Iterator[str]:
    if node.attributes.get_int("sorted", 1) != 1:
        yield "sorted=0; expected 1"
    keep = node.inputs[1].const_value if node.inputs[1] is not None else None
    if keep is not None and int(keep.numpy().item()) > MAX_TOP_K:
        yield f"k = {int(keep.numpy().item())}; expected at most {MAX_TOP_K}"


def _is_int64_arithmetic(node: ir.Node) -> bool:
    return node.op_type in _ARITHMETIC and node.outputs[0].dtype == ir.DataType.INT64


def _describe(value: ir.Value) -> str:
    dtype = value.dtype.name.lower() if value.dtype is not None else "?"
    return f"{value.name} {dtype}{list(value.shape.numpy()) if value.shape is not None else '?'}"
