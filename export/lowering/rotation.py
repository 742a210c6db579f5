"""Rotates the residual stream of a model: the same results, but no channel stands out, which few bits are lost on.

Between two RMSNorms a decoder only adds, gathers and joins tokens, and the norm itself does not see a rotation: it
needs nothing but the length of a row. So every weight that writes to the stream is multiplied with a rotation, every
weight that reads it behind a norm with the inverse, the norm's own weight folded in; embeddings and biases turn along.
Before rounding that is exact but for the last digits.

Whatever reads the stream in another way, or writes other things to it (a policy that compares tokens, an action head
with a LayerNorm), gets a product of its own that turns it back. Where that would be more than the norms, the rotation
is refused.

Source:
    QuaRot, 2404.00456, section 4, stage 1a, as RSQ takes it (2503.01820); that the results stay: SliceGPT, 2401.15024.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common_passes
from numpy.typing import NDArray

from saccade.export.lowering.constants import add_constant
from saccade.export.lowering.hadamard import rotation
from saccade.export.lowering.rms_norms import RmsNorm, find_rms_norm
from saccade.export.lowering.row_gathers import static_shape
from saccade.proto.errors import ExportError

Floats = NDArray[Any]
_VIEWS = ("Gather", "Slice", "Squeeze", "Unsqueeze", "Identity", "Reshape", "Expand", "Transpose", "Split")
"""Operators that take whole rows, if the last axis of what they give is that of what they get."""


@dataclass
class RotationReport:
    """What was rotated in a graph.

    Args:
        widths: Channels of each stream.
        weights: Constants that were turned.
        back: Products that were added, to turn to or from the stream.
    """

    widths: list[int] = field(default_factory=list)
    weights: int = 0
    back: int = 0


def rotate_residual_stream(model: ir.Model, seed: int = 0) -> RotationReport:
    """Rewrite a graph in place.

    Args:
        model: Captured graph in float32, with its weights.
        seed: Seed of the rotation.

    Raises:
        ExportError: The graph has no RMSNorm before a weight, no rotation of its width is known, or turning back would
            cost more products than there are norms.
    """
    norms = {node: norm for node in model.graph if (norm := find_rms_norm(node)) is not None}
    report, done = RotationReport(), set[ir.Value]()
    for node, norm in list(norms.items()):
        if norm.x not in done and _is_read_by_weights(node.outputs[0]):
            stream = _Stream(model, norms, norm.x, seed)
            stream.rotate()
            done |= stream.values
            report.widths.append(stream.width)
            report.weights += stream.turned
            report.back += stream.back
    if not report.widths:
        raise ExportError(
            "expected a model whose layers begin with an RMSNorm to rotate, found none: leave --rotate out."
        )
    common_passes.RemoveUnusedNodesPass()(model)
    common_passes.TopologicalSortPass()(model)
    return report


class _Stream:
    """One residual stream: values that become ``x @ rotation``, what writes them and what reads them."""

    def __init__(self, model: ir.Model, norms: dict[ir.Node, RmsNorm], start: ir.Value, seed: int) -> None:
        self._model = model
        self._ends = {norm.power: norm for norm in norms.values()} | {
            norm.divide: norm for norm in norms.values()
        }
        self._scaled = {norm.divide: node for node, norm in norms.items()}
        self.width = _width(start)
        turn = rotation(self.width, seed)
        if turn is None:
            raise ExportError(
                f"expected a width of which a Hadamard matrix is known, found {self.width} channels: leave --rotate "
                "out."
            )
        self._rotation, self.turned, self.back = turn, 0, 0
        self.values = self._connected(start)

    def rotate(self) -> None:
        """Turn all that writes and reads the stream."""
        norms = [
            self._ends[node] for node in self._ends if node.op_type == "Div" and node.inputs[0] in self.values
        ]
        writers = [value for value in self.values if not self._is_inside(value)]
        readers = list(self._readers())
        for value in writers:
            self._turn_writer(value)
        for node in {use.node for value in self.values for use in value.uses() if self._passes(use.node)}:
            self._turn_constants(node)
        for value, node, place in readers:
            self._turn_reader(value, node, place, None)
        for norm in norms:
            self._turn_norm(norm)
        if self.back > len(norms):
            raise ExportError(
                f"expected a stream of {self.width} channels that weights behind {len(norms)} norms read, found "
                f"{self.back} places that read or write it otherwise: turning back costs more than it saves, leave "
                "--rotate out."
            )

    def _connected(self, start: ir.Value) -> set[ir.Value]:
        """Return every value that is rotated if one is."""
        found, waiting = {start}, [start]
        while waiting:
            value = waiting.pop()
            near = list(_streams_of(value.producer())) if self._is_inside(value) else []
            for use in value.uses():
                if self._passes(use.node):
                    near += [*use.node.outputs, *_streams_of(use.node)]
            new = [each for each in near if each not in found and each.const_value is None]
            found.update(new)
            waiting += new
        return found

    def _is_inside(self, value: ir.Value) -> bool:
        node = value.producer()
        return node is not None and self._passes(node)

    def _passes(self, node: ir.Node) -> bool:
        """Whether a node gives rotated rows for rotated rows; a product's bias is of the product."""
        if node.op_type == "Add":
            return all(_width(value) == self.width for value in (*node.inputs, *node.outputs))
        if node.op_type == "Concat":
            rank = len(node.outputs[0].shape or ())
            return (
                node.attributes.get_int("axis", 0) not in {-1, rank - 1}
                and _width(node.outputs[0]) == self.width
            )
        return _is_view(node) and _width(node.inputs[0]) == self.width

    def _turn_writer(self, value: ir.Value) -> None:
        """Rotate what writes to the stream: a weight, a table, or anything else by a product."""
        node = value.producer()
        if node is not None and node.op_type == "ConstantOfShape" and not node.attributes:
            return  # zeros
        if node is not None and node.op_type == "MatMul" and _is_weight(node.inputs[1]):
            self._replace(node, 1, lambda weight: weight @ self._rotation)
        elif node is not None and node.op_type == "Gemm" and _is_plain_gemm(node):
            is_turned = node.attributes.get_int("transB", 0) == 1
            self._replace(
                node, 1, lambda weight: (self._rotation.T @ weight) if is_turned else weight @ self._rotation
            )
            if len(node.inputs) > 2:
                self._replace(node, 2, lambda bias: bias @ self._rotation)
        elif node is not None and node.op_type == "Gather" and _is_table(node):
            self._replace(node, 0, lambda table: table @ self._rotation)
        else:
            turned = self._product(value, self._rotation, "turned")
            for use in list(value.uses()):
                if use.node is not turned.producer() and self._passes(use.node):
                    use.node.replace_input_with(use.idx, turned)

    def _turn_constants(self, node: ir.Node) -> None:
        for place, value in enumerate(node.inputs):
            if value is not None and value.const_value is not None and node.op_type in {"Add", "Concat"}:
                self._replace(node, place, lambda rows: rows @ self._rotation)

    def _readers(self) -> Iterator[tuple[ir.Value, ir.Node, int]]:
        for value in self.values:
            for use in value.uses():
                if not self._passes(use.node) and use.node not in self._ends:
                    yield value, use.node, use.idx
            if value.is_graph_output():
                raise ExportError(
                    f"expected a stream that stays in the graph, found the output {value.name!r}."
                )

    def _turn_norm(self, norm: RmsNorm) -> None:
        """Fold a norm's weight into the weights behind it; the rows that it gives are rotated."""
        (scaled,) = self._scaled[norm.divide].outputs
        normed = {scaled: norm.divide.outputs[0]}
        for node in self._model.graph:
            rows = node.inputs[:1] if _is_view(node) else node.inputs
            passes = _is_view(node) or (node.op_type == "Concat" and self._passes(node))
            if passes and all(value in normed for value in rows):
                normed |= {output: output for output in node.outputs if _width(output) == self.width}
        for old, new in normed.items():
            for use in list(old.uses()):
                if any(output in normed for output in use.node.outputs):
                    use.node.replace_input_with(use.idx, new)
                else:
                    self._turn_reader(new, use.node, use.idx, norm.weight)

    def _turn_reader(self, value: ir.Value, node: ir.Node, place: int, scale: ir.Value | None) -> None:
        """Turn a weight that reads rotated rows, or turn the rows back for anything else."""
        factor = (
            1.0
            if scale is None or scale.const_value is None
            else scale.const_value.numpy().astype(np.float64)
        )
        inverse = self._rotation.T * factor
        if node.op_type == "MatMul" and place == 0 and _is_weight(node.inputs[1]):
            node.replace_input_with(0, value)
            self._replace(node, 1, lambda weight: inverse @ weight)
        else:
            name = "back" if scale is None else f"back.{scale.name}"
            node.replace_input_with(place, self._product(value, inverse, name))

    def _product(self, value: ir.Value, matrix: Floats, suffix: str) -> ir.Value:
        """Multiply a value with a matrix of the rotation's size, once for all that want it."""
        name = f"{value.name}.{suffix}"
        for use in value.uses():
            if use.node.outputs[0].name == name:
                return use.node.outputs[0]
        stored = add_constant(self._model, f"{suffix}.{self.width}", ir.tensor(matrix.astype(np.float32)))
        node = ir.node("MatMul", [value, stored], name=f"node_{name}")
        made = node.outputs[0]
        made.name, made.type, made.shape = name, ir.TensorType(ir.DataType.FLOAT), value.shape
        maker = value.producer()
        if maker is None:
            self._model.graph.insert_before(next(iter(self._model.graph)), node)
        else:
            self._model.graph.insert_after(maker, node)
        self.back += 1
        return made

    def _replace(self, node: ir.Node, place: int, change: Callable[[Floats], Floats]) -> None:
        """Give a node a changed constant, computed when it is written; one for all nodes that change it alike."""
        stored = node.inputs[place]
        tensor = None if stored is None else stored.const_value
        assert stored is not None and tensor is not None  # noqa: S101 - it is a constant

        def turned() -> ir.TensorProtocol:
            return ir.tensor(np.ascontiguousarray(change(tensor.numpy().astype(np.float64)), np.float32))

        name = f"{stored.name}.rotated.{node.name}"
        lazy = ir.LazyTensor(turned, ir.DataType.FLOAT, ir.Shape(tensor.shape.numpy()), name=name)
        node.replace_input_with(place, add_constant(self._model, name, lazy))
        self.turned += 1


def _width(value: ir.Value | None) -> int:
    shape = static_shape(value)
    return shape[-1] if shape else 0


def _streams_of(node: ir.Node | None) -> Iterator[ir.Value]:
    """Yield the inputs of a node that passes rows on, other than indices and shapes."""
    if node is not None:
        for value in node.inputs[:1] if node.op_type in _VIEWS else node.inputs:
            if value is not None:
                yield value


def _is_view(node: ir.Node) -> bool:
    """Whether a node takes whole rows of an activation."""
    source = node.inputs[0] if node.inputs else None
    if node.op_type not in _VIEWS or source is None or source.const_value is not None or not source.shape:
        return False
    last = len(source.shape) - 1
    axis = node.attributes.get_int("axis", 0)
    if node.op_type == "Transpose" and node.attributes["perm"].as_ints()[-1] != last:
        return False
    if node.op_type in {"Gather", "Split"} and axis in {-1, last}:
        return False
    return all(_width(output) == _width(source) for output in node.outputs)


def _is_read_by_weights(value: ir.Value) -> bool:
    return any(
        use.node.op_type == "MatMul" and use.idx == 0 and _is_weight(use.node.inputs[1])
        for use in value.uses()
    )


def _is_weight(value: ir.Value | None) -> bool:
    return value is not None and value.const_value is not None and len(value.const_value.shape) == 2


def _is_table(node: ir.Node) -> bool:
    return _is_weight(node.inputs[0]) and node.attributes.get_int("axis", 0) == 0


def _is_plain_gemm(node: ir.Node) -> bool:
    ones = [node.attributes.get_float(name, 1.0) for name in ("alpha", "beta")]
    return ones == [1.0, 1.0] and not node.attributes.get_int("transA", 0) and _is_weight(node.inputs[1])
