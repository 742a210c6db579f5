"""torch module to ONNX graph: torch.export, opset 20, standard domain, static shapes, then made lean.

Opset 20 with primitive operators is the one form that TensorRT 10.3 to 11, TensorRT-RTX and ONNX Runtime all read.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import onnx_ir as ir
import torch
from torch import Tensor

from saccade.export.lowering.attention_lowering import LOWERINGS
from saccade.export.lowering.rewriting import make_lean
from saccade.export.lowering.unread_weights import unread_weights
from saccade.export.lowering.weight_tensors import attach_weights
from saccade.policies.blocks.greedy import ONNX_FORMS
from saccade.proto.errors import ExportError

OPSET = 20
_CHATTY_LOGGERS = ("torch.onnx._internal.exporter._registration", "onnx_ir", "onnxscript")


class GraphPorts(NamedTuple):
    """Names of a graph's inputs and outputs, in order."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def to_graph(module: torch.nn.Module, example: tuple[Tensor, ...], ports: GraphPorts, what: str) -> ir.Model:
    """Export a module of flat tensors.

    Args:
        module: Module of flat tensors and static shapes.
        example: Inputs of the module; their shapes become the graph's.
        ports: Names of the graph's inputs and outputs.
        what: Name of the module, for messages.

    Raises:
        ExportError: torch cannot export the module.
    """
    try:
        with torch.no_grad(), _quiet(), unread_weights(module) as parameters:
            program = torch.onnx.export(
                module.eval(),
                tuple(tensor.clone() for tensor in example),  # one tensor given twice would become one input
                dynamo=True,
                opset_version=OPSET,
                input_names=ports.inputs,
                output_names=ports.outputs,
                custom_translation_table={**LOWERINGS, **ONNX_FORMS},
                optimize=False,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise ExportError(
            f"{what}: expected a graph of static shapes and standard operators, torch.onnx refused: {error}."
        ) from error
    if program is None:
        raise ExportError("torch.onnx.export returned nothing; expected a program.")
    attach_weights(program.model, parameters)
    with _quiet():
        model = make_lean(program.model)
    for value, name in zip(model.graph.outputs, ports.outputs, strict=True):
        value.name = name  # outputs that are found equal come out as one and an alias
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the libraries' own notices (no torchvision, nothing to merge); errors still raise."""
    loggers = [logging.getLogger(name) for name in _CHATTY_LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
