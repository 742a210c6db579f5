"""The logits by which a graph chooses action tokens, told beside its outputs.

A chosen token says little of how near the choice was: an error shows in actions only once it turns one.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper


def telling_logits(graph: Path, vocab_size: int) -> tuple[onnx.ModelProto, int]:
    """Return a graph that also gives the logits of its choices of tokens, in that order, and how many those are.

    Args:
        graph: Path of an ONNX file; its weights are not read.
        vocab_size: Length of a row of logits, which tells a choice of tokens from other ``ArgMax``, such as a policy's
            picks.
    """
    model = onnx.load(graph, load_external_data=False)
    width = {
        value.name: value.type.tensor_type.shape.dim[-1].dim_value
        for value in model.graph.value_info
        if value.type.tensor_type.shape.dim
    }
    chosen = [node.input[0] for node in model.graph.node if node.op_type == "ArgMax"]
    logits = [name for name in chosen if width.get(name) == vocab_size]
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in logits)
    return model, len(logits)
