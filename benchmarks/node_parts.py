"""Which part of a control step a node of an ONNX graph belongs to.

A node lies in the module whose weights were read last on the way to it. Choosing is told apart by where results go:
what reaches the actions only as an index (which rows to gather) or not at all (carry, kept indices) computes a choice,
and what moves rows by such an index, up to the next node that computes, carries it out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path

import click
import onnx

from saccade.proto.tensor_names import ACTIONS, ATTENTION_MASK, POSITION_IDS, PROPRIO, TOKEN_IDS

TOWER, BEFORE, BEHIND, CHOOSING, REST = PARTS = (
    "tower", "layers before the cut", "layers behind it", "choosing", "rest",
)  # fmt: skip
_TOWER_WEIGHT = re.compile(r"\bvision_\w+\.")
_LAYER_WEIGHT = re.compile(r"\blanguage_model\.\S*\blayers\.(\d+)\.")
_OTHER_WEIGHT = re.compile(r"\.(weight|bias)$")
_INDEX_INPUT = {
    "Gather": 1, "GatherElements": 1, "GatherND": 1, "ScatterElements": 1, "ScatterND": 1, "Where": 0,
}  # fmt: skip
_MOVES = {
    *_INDEX_INPUT, "Cast", "Concat", "Expand", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose",
    "Unsqueeze",
}  # fmt: skip
_SAYS_NOTHING = {ATTENTION_MASK, POSITION_IDS, PROPRIO, TOKEN_IDS}
"""Inputs that alone choose nothing: what depends on them only is mask and positions."""
_NOWHERE, _IN_TOWER, _IN_PROJECTOR, _FIRST_LAYER = -1, 0, 1, 2


class _Graph:
    """The nodes of a graph in order, and for each what it reads from which nodes before it."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.nodes = list(graph.node)
        self.weights = {tensor.name for tensor in graph.initializer}
        self.inputs = {value.name for value in graph.input} - self.weights
        self._made_by = {name: place for place, node in enumerate(self.nodes) for name in node.output if name}
        self._read = [[*node.input, *_captured(node)] for node in self.nodes]

    def sources(self, place: int) -> Iterator[tuple[int, bool]]:
        """Give each node that a node reads from, and whether it reads an index there."""
        index = _INDEX_INPUT.get(self.nodes[place].op_type)
        for position, name in enumerate(self._read[place]):
            if name in self._made_by:
                yield self._made_by[name], position == index

    def names(self, place: int) -> Sequence[str]:
        """Return the names of everything that a node reads, weights among it."""
        return self._read[place]

    def maker(self, name: str) -> int:
        """Return the place of the node that makes a tensor."""
        return self._made_by[name]


def node_parts(model: onnx.ModelProto, layers: int, cut: int) -> dict[str, str]:
    """Return the part of every node of a graph of the single-pass family, by the node's name.

    Args:
        model: The graph, as exported or as ONNX Runtime optimised it; no weights are read.
        layers: Number of decoder layers.
        cut: First decoder layer that sees fewer visual tokens in a pruned profile.

    Raises:
        ClickException: A decoder layer reads no weight of its name, or the graph makes no actions.
    """
    graph = _Graph(model.graph)
    if not any(ACTIONS in node.output for node in graph.nodes):
        raise click.ClickException(f"expected a graph that makes {ACTIONS!r} in one pass, found none.")
    modules = _modules(graph, layers)
    missing = {_FIRST_LAYER + layer for layer in range(layers)} - set(modules)
    if missing:
        raise click.ClickException(
            f"expected weights named language_model...layers.0 to {layers - 1} in the graph, found none of layer "
            f"{min(missing) - _FIRST_LAYER}: equal weights are stored once, under one name; measure a trained model."
        )
    choosing = _choosing(graph, modules)
    feeds_tower = _feeds(graph, {place for place, module in enumerate(modules) if module == _IN_TOWER})
    found: dict[str, str] = {}
    for place, node in enumerate(graph.nodes):
        if place in choosing:
            part = CHOOSING
        elif modules[place] == _IN_TOWER or (modules[place] == _NOWHERE and place in feeds_tower):
            part = TOWER
        elif _FIRST_LAYER <= modules[place] < _FIRST_LAYER + layers:
            part = BEFORE if modules[place] < _FIRST_LAYER + cut else BEHIND
        else:
            part = REST
        found[node.name] = part if found.get(node.name, part) == part else REST
    return found


def inner_nodes(model: onnx.ModelProto) -> set[str]:
    """Return the names of the nodes inside loops and branches, whose time is their loop's."""
    return {inner.name for node in model.graph.node for body in _bodies(node) for inner in body.node}


def read_graph(path: Path) -> onnx.ModelProto:
    """Read an ONNX file without its weights."""
    return onnx.load(str(path), load_external_data=False)


def _bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        for body in (attribute.g, *attribute.graphs):
            if body.node:
                yield body
                for inner in body.node:
                    yield from _bodies(inner)


def _captured(node: onnx.NodeProto) -> list[str]:
    return [name for body in _bodies(node) for inner in body.node for name in inner.input]


def _modules(graph: _Graph, layers: int) -> list[int]:
    """Number the module that each node lies in: the furthest whose weights were read on the way to it."""
    found: list[int] = []
    for place in range(len(graph.nodes)):
        reached = [found[source] for source, _ in graph.sources(place)]
        read = [_module(name, layers) for name in graph.names(place) if name in graph.weights]
        found.append(max([*reached, *read], default=_NOWHERE))
    return found


def _module(weight: str, layers: int) -> int:
    if _TOWER_WEIGHT.search(weight):
        return _IN_TOWER
    if "language_model" in weight:
        layer = _LAYER_WEIGHT.search(weight)
        if layer is not None:
            return _FIRST_LAYER + int(layer[1])
        return _IN_PROJECTOR if "embed" in weight else _FIRST_LAYER + layers
    if "action_head" in weight:
        return _FIRST_LAYER + layers
    return _IN_PROJECTOR if _OTHER_WEIGHT.search(weight) else _NOWHERE


def _choosing(graph: _Graph, modules: Sequence[int]) -> set[int]:
    """Return the places of the nodes that compute a choice, and of those that move rows by it."""
    acts = _reaches_actions(graph)
    looks = _looks(graph, modules)
    found: set[int] = set()
    for place, node in enumerate(graph.nodes):
        if place not in acts:
            if looks[place]:
                found.add(place)
        elif node.op_type in _MOVES and any(source in found for source, _ in graph.sources(place)):
            found.add(place)
    return found


def _reaches_actions(graph: _Graph) -> set[int]:
    """Return the places of the nodes whose values, not only as an index, go into the actions."""
    found: set[int] = set()
    ahead = [graph.maker(ACTIONS)]
    while ahead:
        place = ahead.pop()
        if place not in found:
            found.add(place)
            ahead += [source for source, is_index in graph.sources(place) if not is_index]
    return found


def _looks(graph: _Graph, modules: Sequence[int]) -> list[bool]:
    """Say of each node whether it depends on pixels, on weights or on a carry: the mask alone chooses nothing."""
    found: list[bool] = []
    for place in range(len(graph.nodes)):
        seen = {name for name in graph.names(place) if name in graph.inputs}
        found.append(
            modules[place] > _NOWHERE
            or bool(seen - _SAYS_NOTHING)
            or any(found[source] for source, _ in graph.sources(place))
        )
    return found


def _feeds(graph: _Graph, wanted: set[int]) -> set[int]:
    """Return the places of the nodes whose values go straight into one of those that are wanted."""
    found, ahead = set(), list(wanted)
    while ahead:
        place = ahead.pop()
        if place not in found:
            found.add(place)
            ahead += [source for source, is_index in graph.sources(place) if not is_index]
    return found


def count_macs(op_type: str, inputs: Sequence[Mapping[str, Sequence[int]]], output: Sequence[int]) -> int:
    """Return the multiply-accumulates of a node: of a matrix product, from its shapes; 0 of everything else.

    Args:
        op_type: ONNX operator, or ONNX Runtime's fusion of one.
        inputs: For each input, its shape by the name of its dtype.
        output: Shape of the first output.
    """
    if op_type not in {"MatMul", "FusedMatMul", "Gemm"} or len(output) < 2:
        return 0
    (first,) = inputs[0].values()
    inner = prod(first[-2:]) // output[-2] if len(first) > 1 else first[0]
    return prod(output) * inner
