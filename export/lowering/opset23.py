"""Norms, rotary embedding and attention as the single operators that opset 23 has for them.

An engine that knows them need not find them again among primitives: TensorRT from 10.15 on, TensorRT-RTX, ONNX Runtime.
TensorRT 10.3, of JetPack 6, reads nothing beyond opset 20, which is why the primitive form is the canonical one.
Attention whose shares a policy reads stays as it is: the operator keeps them to itself. How exact its softmax is, the
engine decides: TensorRT refuses ``softmax_precision``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common_passes

from saccade.export.lowering.constants import add_constant
from saccade.export.lowering.rms_norms import find_rms_norm, made_by, scalar
from saccade.export.lowering.row_gathers import shape_constant, static_shape

OPSET, _IR_VERSION = 23, 11
_KEEP_LAST = ("Gather", "Slice", "Squeeze", "Unsqueeze", "Identity", "Reshape", "Expand")
_FUSED = ("RMSNormalization", "RotaryEmbedding", "Attention")


class _Attention(NamedTuple):
    query: ir.Value
    key: ir.Value
    value: ir.Value
    scale: float
    mask: ir.Value | None


def fuse_to_opset23(model: ir.Model) -> dict[str, int]:
    """Rewrite a graph in place; it is of opset 23 then.

    Args:
        model: Captured graph in float32, with its weights.

    Returns:
        How many of each operator came into being.
    """
    for node in list(model.graph):
        if (norm := find_rms_norm(node)) is not None:
            inputs, more = [norm.x, norm.weight], {"axis": -1, "epsilon": norm.epsilon, "stash_type": 1}
            _replace(model, node, ir.node("RMSNormalization", inputs, more))
        elif (rotated := _rotary(node)) is not None:
            x, cos, sin = rotated
            half = int(x.shape[-1]) // 2  # type: ignore[index, arg-type]
            caches = [_cache(model, node, cos, 0, half), _cache(model, node, sin, half, 2 * half)]
            _replace(model, node, ir.node("RotaryEmbedding", [x, *caches], {"interleaved": 0}))
        elif (found := _attention(node)) is not None:
            more = {"scale": found.scale}
            mask = [] if found.mask is None else [_mask(model, node, found.mask, found.query, found.key)]
            _replace(model, node, ir.node("Attention", [*found[:3], *mask], more))
    common_passes.RemoveUnusedNodesPass()(model)
    model.graph.opset_imports[""] = max(OPSET, model.graph.opset_imports[""])
    model.ir_version = max(_IR_VERSION, model.ir_version)
    return {kind: sum(node.op_type == kind for node in model.graph) for kind in _FUSED}


def _replace(model: ir.Model, node: ir.Node, new: ir.Node) -> None:
    """Put a node in the place of one whose output it computes."""
    old, made = node.outputs[0], new.outputs[0]
    new.name = f"{new.op_type}.{old.name}"
    made.type, made.shape = old.type, old.shape
    ir.convenience.replace_nodes_and_values(model.graph, node, [node], [new], [old], [made])


def _rotary(node: ir.Node) -> tuple[ir.Value, ir.Value, ir.Value] | None:
    """Recognise ``x * cos + swap_halves(x) * sin``, where ``sin`` has the sign of the half; return x, cos, sin."""
    parts = [made_by(value, "Mul") for value in node.inputs] if node.op_type == "Add" else []
    for first, second in (parts, parts[::-1]) if len(parts) == 2 else ():
        if first is None or second is None:
            continue
        x, cos = first.inputs
        swapped, sin = second.inputs
        joined = made_by(swapped, "Concat")
        split = None if joined is None else made_by(joined.inputs[0], "Split")
        if (
            x is None
            or cos is None
            or sin is None
            or joined is None
            or split is None
            or split.inputs[0] is not x
        ):
            continue
        shape, table = static_shape(x), static_shape(cos)
        if (
            shape is None
            or len(shape) != 4
            or table != [shape[0], 1, *shape[2:]]
            or table != static_shape(sin)
        ):
            continue
        is_swapped = list(joined.inputs) == list(reversed(split.outputs)) and len(split.outputs) == 2
        is_last = all(each.attributes.get_int("axis", 0) in {-1, 3} for each in (joined, split))
        if is_swapped and is_last and _is_table(cos, mirrored=False) and _is_table(sin, mirrored=True):
            return x, cos, sin
    return None


def _is_table(value: ir.Value | None, *, mirrored: bool) -> bool:
    """Whether the second half of each row is the first again, or its negative."""
    if value is None or value.shape is None:
        return False
    if value.const_value is not None:
        first, second = np.split(value.const_value.numpy(), 2, axis=-1)
        return bool(np.array_equal(first, -second if mirrored else second))
    node = value.producer()
    if node is None:
        return False
    if _joins_last(node):
        return len(node.inputs) == 2 and _are_halves(node.inputs[0], node.inputs[1], mirrored)
    if node.op_type == "Concat":
        return all(_is_table(each, mirrored=mirrored) for each in node.inputs)
    return _keeps_rows(node, value) and _is_table(node.inputs[0], mirrored=mirrored)


def _joins_last(node: ir.Node) -> bool:
    last = len(node.outputs[0].shape or ()) - 1
    return node.op_type == "Concat" and node.attributes.get_int("axis", 0) in {-1, last}


def _are_halves(first: ir.Value | None, second: ir.Value | None, mirrored: bool) -> bool:
    if not mirrored:
        return first is second
    negated = made_by(first, "Neg")
    return negated is not None and negated.inputs[0] is second


def _keeps_rows(node: ir.Node, value: ir.Value) -> bool:
    """Whether a node takes whole rows of its input."""
    source = static_shape(node.inputs[0])
    if node.op_type not in _KEEP_LAST or source is None or value.shape is None:
        return False
    takes_last = node.op_type == "Gather" and node.attributes.get_int("axis", 0) in {-1, len(source) - 1}
    return not takes_last and source[-1] == value.shape[-1]


def _cache(model: ir.Model, reader: ir.Node, table: ir.Value, start: int, end: int) -> ir.Value:
    """Return half of each row of a table, ``(batch, tokens, head_dim / 2)``."""
    name = f"{table.name}.cache.{start}"
    for use in table.uses():
        for onward in use.node.outputs[0].uses():
            if onward.node.outputs[0].name == name:
                return onward.node.outputs[0]
    batch, _, tokens, _ = static_shape(table)  # type: ignore[misc]
    ends = [_whole(model, number) for number in (start, end, 3)]
    part = ir.node("Slice", [table, *ends])
    flat = ir.node("Squeeze", [part.outputs[0], _whole(model, 1)])
    for node, shape, suffix in (
        (part, [batch, 1, tokens, end - start], ".half"),
        (flat, [batch, tokens, end - start], ""),
    ):
        node.outputs[0].name = name + suffix
        node.outputs[0].type, node.outputs[0].shape = table.type, ir.Shape(shape)
    maker = table.producer()
    if maker is None:
        model.graph.insert_before(reader, [part, flat])
    else:
        model.graph.insert_after(maker, [part, flat])
    return flat.outputs[0]


def _mask(model: ir.Model, reader: ir.Node, mask: ir.Value, query: ir.Value, key: ir.Value) -> ir.Value:
    """Return a mask with a row for each query: ONNX Runtime does not repeat one for all."""
    rows, shape = query.shape[2], static_shape(mask)  # type: ignore[index]
    if shape is None or len(shape) < 2 or shape[-2] == rows:
        return mask
    shape[-2:] = [int(rows), int(key.shape[2])]  # type: ignore[index, arg-type]
    name = f"{mask.name}.rows.{rows}"
    for use in mask.uses():
        if use.node.outputs[0].name == name:
            return use.node.outputs[0]
    node = ir.node("Expand", [mask, shape_constant(model, shape)])
    node.outputs[0].name, node.outputs[0].type, node.outputs[0].shape = name, mask.type, ir.Shape(shape)
    model.graph.insert_before(reader, node)
    return node.outputs[0]


def _whole(model: ir.Model, number: int) -> ir.Value:
    return add_constant(model, f"opset23.{number}", ir.tensor(np.array([number], np.int64)))


def _attention(node: ir.Node) -> _Attention | None:
    """Recognise ``softmax(query * scale @ key^T + mask) @ value`` whose shares nobody else reads."""
    shares = made_by(node.inputs[0], "Softmax") if node.op_type == "MatMul" else None
    if (
        shares is None
        or len(shares.outputs[0].uses()) != 1
        or shares.attributes.get_int("axis", -1) not in {-1, 3}
    ):
        return None
    logits, mask = shares.inputs[0], None
    added = made_by(logits, "Add")
    if added is not None:
        logits, mask = added.inputs
    product = made_by(logits, "MatMul")
    scaled = None if product is None else made_by(product.inputs[0], "Mul")
    turned = None if product is None else made_by(product.inputs[1], "Transpose")
    if scaled is None or turned is None or list(turned.attributes["perm"].as_ints()) != [0, 1, 3, 2]:
        return None
    query, scale, key, value = scaled.inputs[0], scalar(scaled.inputs[1]), turned.inputs[0], node.inputs[1]
    shapes = [static_shape(each) for each in (query, key, value)]
    if (
        query is None
        or key is None
        or value is None
        or scale is None
        or any(len(each or ()) != 4 for each in shapes)
    ):
        return None
    heads = {shape[1] for shape in shapes if shape is not None}
    return _Attention(query, key, value, scale, mask) if len(heads) == 1 else None
