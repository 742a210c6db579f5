"""Passes over a captured graph that change no result: fewer nodes, nothing but mathematics left in the file."""

from __future__ import annotations

import ast

import onnx_ir as ir
import onnx_ir.passes.common as common_passes
from onnxscript import optimizer, rewriter
from onnxscript.rewriter.rules import common as rules

from saccade.export.lowering.row_gathers import gather_whole_rows
from saccade.export.lowering.vector_products import make_vectors_rows
from saccade.export.lowering.weight_tensors import permute_weights

FOLD_LIMIT = 1 << 31
"""Constants of any size are folded: weights are permuted once here, not at every control step."""


_MERGES = (
    common_passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
    common_passes.DeduplicateInitializersPass(),
    common_passes.CommonSubexpressionEliminationPass(),
    common_passes.IdentityEliminationPass(),
    common_passes.RemoveUnusedNodesPass(),
)
"""Merge what is equal as it comes. The optimiser, which looks at every node with every rule, then has half to do; and a
weight that several steps use is permuted once, not once for each of them."""

_RULES = (
    rules.cast_cast_rule,
    rules.no_op_cast_rule,
    rules.no_op_expand_rule,
    rules.no_op_transpose_rule,
    rules.transpose_transpose_rule,
    rules.reshape_reshape_rule,
    rules.squeeze_reshape_1d_rule,
    rules.unsqueeze_unsqueeze_rule,
    rules.collapse_slice_rule,
    rules.collapse_slice2_rule,
    rules.add_0_rule,
    rules.sub_0_rule,
    rules.mul_by_1_rule,
    rules.div_by_1_rule,
)
"""What torch's decompositions leave behind. Each rule looks at a node and what feeds it. The optimiser's usual set has
one with two outputs (``slice_split_rule``), which looks at every pair of nodes: two thirds of the time that a model of
32 layers took."""
_ROUNDS = 2
MODULE = "module"
"""Key of a node's ``meta``: path of the module that made it, e.g. ``decoder.layers.3.mlp``."""
_SCOPES = "pkg.torch.onnx.name_scopes"
"""Where torch notes the modules around a node, the outermost first, then the node itself."""


def make_lean(model: ir.Model) -> ir.Model:
    """Fold constants, gather whole rows, make vectors rows, merge equal nodes, drop provenance notes."""
    permute_weights(model)
    make_vectors_rows(model)
    for merge in _MERGES:
        merge(model)
    _simplify(model)
    gather_whole_rows(model)
    sort_top_k(model)
    for clean in (
        common_passes.CommonSubexpressionEliminationPass(),
        common_passes.IdentityEliminationPass(),
        common_passes.LiftConstantsToInitializersPass(),
        common_passes.DeduplicateInitializersPass(),
        common_passes.RemoveUnusedNodesPass(),
        common_passes.OutputFixPass(),
        common_passes.RemoveUnusedOpsetsPass(),
        common_passes.TopologicalSortPass(),
    ):
        clean(model)
    compute_outputs(model)
    _drop_notes(model)
    return model


def _simplify(model: ir.Model) -> None:
    """Fold constants and apply the rules, until nothing changes or the rounds are over."""
    common_passes.InlinePass()(model)
    for _ in range(_ROUNDS):
        folded = optimizer.fold_constants(
            model, onnx_shape_inference=True, input_size_limit=FOLD_LIMIT, output_size_limit=FOLD_LIMIT
        )
        rewritten = rewriter.RewritePass(_RULES)(model)
        common_passes.RemoveUnusedNodesPass()(model)
        if not (folded.modified or rewritten.modified):
            break
    common_passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    common_passes.DeduplicateInitializersPass()(model)


def sort_top_k(model: ir.Model) -> None:
    """Ask every TopK for sorted results: TensorRT knows no other, and sorted is also legal where unsorted was."""
    for node in model.graph:
        if node.op_type == "TopK":
            node.attributes["sorted"] = ir.AttrInt64("sorted", 1)


def compute_outputs(model: ir.Model) -> None:
    """Give constant outputs (the kept set of a full profile) a node: some parsers refuse outputs without one."""
    for position, value in enumerate(model.graph.outputs):
        if value.producer() is not None or value.is_graph_input():
            continue
        name = value.name or f"output_{position}"
        constant = model.graph.initializers.pop(name)
        constant.name = f"{name}.constant"
        identity = ir.node("Identity", [constant])
        output = identity.outputs[0]
        output.name, output.type, output.shape = name, constant.type, constant.shape
        model.graph.outputs[position] = output
        model.graph.register_initializer(constant)
        model.graph.append(identity)


def _drop_notes(model: ir.Model) -> None:
    """Remove stack traces and symbolic notes, which name files of the exporting machine.

    The path of the module that a node is of stays in memory, for messages; it is never written.
    """
    for node in model.graph:
        if scopes := node.metadata_props.get(_SCOPES):
            node.meta[MODULE] = ast.literal_eval(scopes)[-2:][0]
    common_passes.ClearMetadataAndDocStringPass()(model)
    model.metadata_props.clear()
    model.producer_name, model.producer_version = "saccade", ""
    for node in model.graph:
        for value in (*node.outputs, *(item for item in node.inputs if item is not None)):
            value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.outputs):
        value.metadata_props.clear()
