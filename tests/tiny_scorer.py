"""A real scorer bundle: a view's score is its mean brightness, times the number of valid text tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from saccade.proto.bundle_kind import BundleKind
from saccade.proto.instruction_spec import InstructionSpec
from saccade.proto.manifest import (
    Manifest,
    ProfileSpec,
    SegmentSpec,
    StageSpec,
    VectorSpec,
    ViewSpec,
    write_manifest,
)
from saccade.proto.policy_spec import PolicySpec
from saccade.proto.tensor_names import SCORED_VIEWS
from saccade.proto.tensor_spec import TensorRole, TensorSpec
from saccade.runtime.observation import Observation
from tests.tiny_bundle import GRID, SIDE, TEXT, VIEWS, file_specs, write_tokenizer

GRAPH = "graphs/score.onnx"
POSITIONS = GRID.tokens + TEXT


def write_tiny_scorer(root: Path, *, side: int = SIDE, bias: float = 0.0) -> Path:
    """Write the bundle to ``root``, which does not exist yet; ``bias`` is added to every score."""
    (root / "graphs").mkdir(parents=True)
    (root / GRAPH).write_bytes(_model(side, bias).SerializeToString())
    write_tokenizer(root / "tokenizer.json")
    write_manifest(tiny_scorer_manifest(root, side=side), root)
    return root


def tiny_scorer_manifest(root: Path, *, side: int = SIDE) -> Manifest:
    """Describe the files that lie in ``root``."""
    inputs = {spec.name: spec.name for spec in _tensors(side) if spec.role is TensorRole.HOST}
    stage = StageSpec("score", GRAPH, inputs, {SCORED_VIEWS: SCORED_VIEWS})
    return Manifest(
        format_version=1,
        kind=BundleKind.SCORER,
        name="tiny scorer",
        family="test",
        license="Apache-2.0",
        created="2025-01-01T00:00:00Z",
        producer={"saccade": "test"},
        views=tuple(ViewSpec(name, side, side) for name in VIEWS),
        proprio=VectorSpec((), ()),
        instruction=InstructionSpec("tokenizer.json", "is there any {instruction}", TEXT, 0),
        sequence=(SegmentSpec("visual", GRID.tokens), SegmentSpec("text", TEXT)),
        tensors=_tensors(side),
        carry=(),
        profiles=(ProfileSpec("full", GRID.tokens, 1.0, (stage,)),),
        policy=PolicySpec("keep_all", {}, 0, 0),
        grid=GRID,
        files=file_specs(root),
    )


def tiny_scores(observation: Observation, words: int) -> NDArray[np.float32]:
    """The model in numpy; the template has three words of its own."""
    means = [observation.images[view].astype(np.float32).mean() / 255 for view in VIEWS]
    return np.array(means, np.float32) * (words + 3)


def _tensors(side: int) -> tuple[TensorSpec, ...]:
    image_dims = ("batch", "views", "height", "width", "channels")
    return (
        TensorSpec("images", "uint8", (1, GRID.views, side, side, 3), image_dims, "1", TensorRole.HOST),
        TensorSpec("attention_mask", "bool", (1, POSITIONS), ("batch", "tokens"), "1", TensorRole.HOST),
        TensorSpec(SCORED_VIEWS, "float32", (1, GRID.views), ("batch", "views"), "1", TensorRole.RESULT),
    )


def _model(side: int, bias: float) -> onnx.ModelProto:
    node = helper.make_node
    nodes = [
        node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        node("ReduceMean", ["pixels", "within"], ["mean"], keepdims=0),
        node("Div", ["mean", "white"], ["brightness"]),
        node("Cast", ["attention_mask"], ["valid"], to=TensorProto.FLOAT),
        node("ReduceSum", ["valid", "axis1"], ["count"], keepdims=1),
        node("Sub", ["count", "visual"], ["words"]),
        node("Mul", ["brightness", "words"], ["score"]),
        node("Add", ["score", "bias"], [SCORED_VIEWS]),
    ]
    constants = {
        "within": np.array([2, 3, 4]),
        "white": np.array(255, np.float32),
        "axis1": np.array([1]),
        "visual": np.array(GRID.tokens, np.float32),
        "bias": np.array(bias, np.float32),
    }
    ports = [
        helper.make_tensor_value_info(
            spec.name, helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype)), list(spec.shape)
        )
        for spec in _tensors(side)
    ]
    initializers = [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "scorer", ports[:2], ports[2:], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
