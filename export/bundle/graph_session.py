"""A written graph in ONNX Runtime, with which every check of a bundle compares: the one file here that imports it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import onnxruntime as ort
import torch
from torch import nn

from saccade.export.loading.mapped_weight import MappedWeight
from saccade.export.lowering.shared_weights import WEIGHTS_NAME

T = TypeVar("T")

GraphSession = ort.InferenceSession
"""A graph in ONNX Runtime."""


_ERRORS_ONLY = 3


MAPPED_FROM_BYTES = 1 << 28
"""Size from which on a weights file is used where it lies, in bytes."""


def open_graph(graph: Path, model: bytes | None = None) -> ort.InferenceSession:
    """Load a graph with ONNX Runtime on the CPU; it says errors only.

    ONNX Runtime maps the weights file, and then copies what it multiplies into an order of its own; of a large file it
    is told not to, nor to keep what a run has used. It has as many threads as PyTorch, and they do not spin: both want
    the same cores.

    Args:
        graph: Path of the ONNX file, its weights beside it.
        model: Bytes of a model that is run in its place, on the same weights; None = the file itself.
    """
    options = ort.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if stays_mapped(graph):
        options.add_session_config_entry("session.disable_prepacking", "1")
        options.enable_cpu_mem_arena = False
    if model is not None:
        folder = "session.model_external_initializers_file_folder_path"
        options.add_session_config_entry(folder, str(graph.parent))
    return ort.InferenceSession(model or str(graph), options, providers=["CPUExecutionProvider"])


def memory_of_check(model: nn.Module, graph: Path) -> dict[str, Any]:
    """Return for the receipt how both sides of a parity check hold the weights.

    Args:
        model: Model that PyTorch runs.
        graph: Path of the graph that ONNX Runtime runs.
    """
    mapped = (weight.nbytes for weight in model.parameters() if isinstance(weight, MappedWeight))
    return {
        "pytorch_bytes_read_where_used": sum(mapped),
        "onnxruntime_prepacks": not stays_mapped(graph),
    }


def stays_mapped(graph: Path) -> bool:
    """Whether a graph's weights are so large that ONNX Runtime must not copy them."""
    weights = graph.parent / WEIGHTS_NAME
    return weights.is_file() and weights.stat().st_size >= MAPPED_FROM_BYTES


def last(items: Sequence[T], count: int) -> Sequence[T]:
    """Return the last ``count`` of some items, none if it is 0."""
    return items[len(items) - count :]
