"""Large weights in a graph: read only when they are written, so that no pass over the graph holds the model."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import Tensor

from saccade.export.loading.mapped_weight import MAPPED_BYTES, MappedWeight


class WeightTensor(ir.LazyTensor):
    """A parameter as the graph has it, its axes permuted; its values are read anew each time.

    Args:
        parameter: Parameter of the module, float32; it may be mapped.
        axes: The permutation: axis of ``parameter`` for each axis of the tensor.
        name: Name of the tensor in the graph.
    """

    def __init__(self, parameter: Tensor, axes: tuple[int, ...], name: str) -> None:
        shape = ir.Shape([parameter.shape[axis] for axis in axes])
        super().__init__(lambda: ir.tensor(self._values()), ir.DataType.FLOAT, shape, name=name)
        self.parameter, self.axes = parameter, axes

    def permuted(self, order: tuple[int, ...], name: str) -> WeightTensor:
        """Return the tensor with its axes in another order; nothing is read."""
        return WeightTensor(self.parameter, tuple(self.axes[axis] for axis in order), name)

    def _values(self) -> NDArray[np.float32]:
        with torch.no_grad():
            stored = self.parameter.read() if isinstance(self.parameter, MappedWeight) else self.parameter
            values: NDArray[np.float32] = stored.detach().numpy().transpose(self.axes)
        return values


def attach_weights(model: ir.Model, parameters: Mapping[str, Tensor]) -> None:
    """Give a captured graph its large weights.

    Args:
        model: Graph that was captured; mapped weights are fakes in it.
        parameters: Parameters of the module that it was captured from, by name.
    """
    for name, parameter in parameters.items():
        value = model.graph.initializers.get(name)
        if value is not None and parameter.dtype == torch.float32 and parameter.nbytes >= MAPPED_BYTES:
            value.const_value = WeightTensor(parameter, tuple(range(parameter.dim())), name)


def permute_weights(model: ir.Model) -> None:
    """Fold every Transpose of a large weight, without reading it: the graph has the weight as it multiplies it."""
    for node in list(model.graph):
        stored = node.inputs[0] if node.op_type == "Transpose" else None
        if stored is None or not isinstance(stored.const_value, WeightTensor):
            continue
        old = node.outputs[0]
        rank = len(stored.const_value.axes)
        order = tuple(node.attributes.get_ints("perm", tuple(reversed(range(rank)))))
        name, old.name = old.name or f"{stored.name}.permuted", None
        tensor = stored.const_value.permuted(order, name)
        new = ir.Value(
            name=name, type=ir.TensorType(ir.DataType.FLOAT), shape=tensor.shape, const_value=tensor
        )
        model.graph.register_initializer(new)
        ir.convenience.replace_nodes_and_values(model.graph, node, [node], [], [old], [new])
        if not stored.uses() and not stored.is_graph_output():
            model.graph.initializers.pop(stored.name or "")
