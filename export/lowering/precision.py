"""Which nodes of a graph can compute in float16? The model itself; not what it is steered by.

Float16 has three decimal digits and ends at 65,504: enough for weights and for what flows between layers, if sums and
shares are not made of it. What stays in float32, an *island*:

- norms, softmax, and all that is computed from their sums;
- angles and their sines and cosines, which are rounded once, as finished tables;
- the last product before a result and everything behind it: logits, actions, the integration of a flow;
- whatever only a policy reads to score and choose tokens, so that the kept set moves only where scores were almost
  equal;
- what does not fit: constants beyond 65,504, and values that the caller has seen to be too large (``wide``).

Nothing is known of families or steps: a graph's *trunk* is what its results are computed from, other than through the
index of a kept token; products with weights, and attention's products, are float16 there, and so is what lies between
them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
import onnx_ir as ir

from saccade.export.lowering.products import SMALLEST_WEIGHT

LARGEST = 65504.0
"""Largest finite number of float16."""
MOVES = frozenset(
    (
        *(
            "Reshape",
            "Transpose",
            "Slice",
            "Squeeze",
            "Unsqueeze",
            "Split",
            "Concat",
            "Expand",
            "Identity",
            "Tile",
        ),
        *("Gather", "GatherElements", "GatherND", "ScatterElements", "ScatterND"),
    )
)
"""Operators that move numbers and calculate nothing."""
_GATHERS = frozenset(("Gather", "GatherElements", "GatherND"))
_POINTWISE = frozenset(
    ("Add", "Sub", "Mul", "Neg", "Relu", "Gelu", "Sigmoid", "Tanh", "Erf", "Where", "RotaryEmbedding")
)
_BETWEEN = MOVES | _POINTWISE
"""What is float16 if what it reads is."""
_AFTER = _BETWEEN | {"Cast", "Clip", "Div", "ArgMax", "TopK", "Min", "Max", "Round"}
"""What may stand between the last product and a result."""


def half_nodes(
    model: ir.Model, *, results: Collection[str] | None = None, wide: Collection[str] = ()
) -> set[ir.Node]:
    """Return the nodes that can compute in float16.

    Args:
        model: Captured graph, float32, static shapes.
        results: Names of the outputs that the model is for; None = every float32 output.
        wide: Names of values that are too large for float16 or too near to it: whatever reads or writes one stays in
            float32.
    """
    graph, outputs = (
        model.graph,
        [value for value in model.graph.outputs if results is None or value.name in results],
    )
    trunk = _behind(outputs, None)
    precise = _behind(outputs, _AFTER) | _angles(graph)
    too_wide = set(wide)
    tables = _tables(graph)
    half: set[ir.Node] = set()
    narrow: set[ir.Value] = set()
    for node in graph:
        if node not in trunk or node in precise or too_wide.intersection(_names(node)):
            continue
        read = [value for value in node.inputs if value is not None and is_float(value)]
        if not all(fits(value) for value in read):
            continue
        starts = is_product(node) or _is_attention(node, trunk) or _looks_up(node)
        follows = node.op_type in _BETWEEN and any(value in narrow for value in read)
        if starts or (follows and all(v in narrow or v in tables or v.const_value is not None for v in read)):
            half.add(node)
            narrow.update(value for value in node.outputs if is_float(value))
    _hoist(graph, half, trunk - precise, too_wide)
    return half


def is_float(value: ir.Value | None) -> bool:
    """Whether a value is float32."""
    return value is not None and value.dtype == ir.DataType.FLOAT


def is_product(node: ir.Node) -> bool:
    """Whether a node multiplies with a constant weight that is worth storing in fewer bits."""
    if node.op_type not in {"MatMul", "Gemm", "Conv"}:
        return False
    stored = node.inputs[1]
    weight = None if stored is None else stored.const_value
    return weight is not None and len(weight.shape) >= 2 and weight.size >= SMALLEST_WEIGHT


def fits(value: ir.Value | None) -> bool:
    """Whether float16 has room for a value; what is no constant is said to."""
    if value is None or value.const_value is None:
        return True
    numbers = value.const_value.numpy()
    finite = numbers[np.isfinite(numbers)]
    return finite.size == 0 or bool(np.abs(finite).max() <= LARGEST)


def _names(node: ir.Node) -> list[str]:
    return [value.name for value in (*node.inputs, *node.outputs) if value is not None and value.name]


def _behind(ends: Iterable[ir.Value | None], passed: Collection[str] | None) -> set[ir.Node]:
    """Return the nodes that values are computed from; an index counts only where it looks a row up in a constant table.

    Args:
        ends: The values.
        passed: Operators that are looked behind; at a product, and at any other operator, the search ends. None = all.
    """
    found: set[ir.Node] = set()
    waiting = list(ends)
    while waiting:
        value = waiting.pop()
        node = None if value is None else value.producer()
        if node is None or node in found:
            continue
        is_end = passed is not None and node.op_type not in passed
        if is_end and not (is_product(node) or node.op_type == "MatMul"):
            continue
        found.add(node)
        if is_end:
            continue
        follows_all = not any(is_float(output) for output in node.outputs) or _looks_up(node, 1)
        waiting.extend(each for each in node.inputs if follows_all or is_float(each))
    return found


def _looks_up(node: ir.Node, smallest: int = SMALLEST_WEIGHT) -> bool:
    """Whether a node takes rows of a constant float32 table."""
    table = node.inputs[0] if node.op_type in _GATHERS else None
    if table is None or table.const_value is None or not is_float(table):
        return False
    return table.const_value.size >= smallest


def _angles(graph: ir.Graph) -> set[ir.Node]:
    """Return what sines and cosines are computed from, and those themselves."""
    waves = [node for node in graph if node.op_type in {"Cos", "Sin"}]
    return {*waves, *_behind((value for node in waves for value in node.inputs), None)}


def _tables(graph: ir.Graph) -> set[ir.Value]:
    """Return sines and cosines in any arrangement, and what is filled with a constant: both are rounded where used."""
    found: set[ir.Value] = set()
    for node in graph:
        read = [value for value in node.inputs if is_float(value)]
        is_moved = node.op_type in MOVES or node.op_type in {"Neg", "Where"}
        if node.op_type in {"Cos", "Sin", "ConstantOfShape"} or (
            is_moved and read and all(value in found for value in read)
        ):
            found.update(node.outputs)
    return found


def _is_attention(node: ir.Node, trunk: set[ir.Node]) -> bool:
    """Whether a node multiplies queries with keys, or shares with values, or both."""
    if node.op_type == "Attention":
        return True
    if node.op_type != "MatMul" or any(
        value is None or value.const_value is not None for value in node.inputs
    ):
        return False
    return _leads_to_softmax(node.outputs[0], trunk) or any(_is_share(value) for value in node.inputs)


def _leads_to_softmax(value: ir.Value, trunk: set[ir.Node]) -> bool:
    waiting, seen = [value], {value}
    while waiting:
        for use in waiting.pop().uses():
            if use.node.op_type == "Softmax" and use.node in trunk:
                return True
            new = use.node.outputs[0]
            if use.node.op_type in _BETWEEN and use.node in trunk and new not in seen:
                seen.add(new)
                waiting.append(new)
    return False


def _is_share(value: ir.Value | None) -> bool:
    """Whether a value is the output of a softmax, moved or masked."""
    node = None if value is None else value.producer()
    while node is not None and node.op_type in MOVES:
        node = node.inputs[0].producer() if node.inputs[0] is not None else None
    return node is not None and node.op_type == "Softmax"


def _hoist(graph: ir.Graph, half: set[ir.Node], allowed: set[ir.Node], wide: set[str]) -> None:
    """Round before numbers are moved, where all that read them round anyway: the same bits, and less to move."""
    for node in reversed(list(graph)):
        if (
            node in half
            or node not in allowed
            or node.op_type not in MOVES
            or wide.intersection(_names(node))
        ):
            continue
        read, written = [v for v in node.inputs if is_float(v)], [v for v in node.outputs if is_float(v)]
        uses = [use.node for value in written for use in value.uses()]
        is_output = any(value.is_graph_output() for value in written)
        if (
            read
            and uses
            and not is_output
            and all(fits(v) for v in read)
            and all(each in half for each in uses)
        ):
            half.add(node)
