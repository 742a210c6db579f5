"""A real bundle for the tabletop without a model in it: looks at what is colourful, and lowers the arm.

Per visual token the graph takes ``s = mean over its pixels of (largest - smallest channel) / 255``; the carry ``h``
becomes ``h / 2 + s``, and the ``keep`` tokens of largest ``h`` are kept. Every action lowers the arm by 1 cm, open.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from saccade.proto.instruction_spec import InstructionSpec
from saccade.proto.manifest import (
    ActionSpec,
    CarrySpec,
    FileSpec,
    GridSpec,
    LimitsSpec,
    Manifest,
    ProfileSpec,
    SegmentSpec,
    StageSpec,
    VectorSpec,
    ViewSpec,
    write_manifest,
)
from saccade.proto.policy_spec import PolicySpec
from saccade.proto.tensor_spec import TensorRole, TensorSpec

GRID = GridSpec(views=2, rows=12, columns=12)
PATCH_PX = 12
CHUNK = 8
TEXT = 10
KEEPS = {"full": (288, 1.0), "keep25": (72, 0.25)}
WARMUP_STEPS = 2
LOWER_M = 0.01
_WORDS = ("[UNK]", "touch", "push", "put", "stack", "the", "block", "zone", "red", "green", "blue", "yellow")


def write_tabletop_bundle(root: Path, *, side: int = 144) -> Path:
    """Write the bundle to ``root``, which does not exist yet; ``side`` pixels a view, a multiple of 12."""
    (root / "graphs").mkdir(parents=True)
    for profile, (keep, _) in KEEPS.items():
        (root / _graph(profile)).write_bytes(_model(keep, side).SerializeToString())
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(_WORDS)}, "[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(root / "tokenizer.json"))
    action = {"q01": [-0.02] * 3 + [0.0], "q99": [0.02] * 3 + [1.0], "mask": [True] * 3 + [False]}
    proprio = {"q01": [-0.2] * 4, "q99": [0.2] * 4}
    (root / "statistics.json").write_text(
        json.dumps({"saccade_shapes": {"action": action, "proprio": proprio}})
    )
    write_manifest(_manifest(root, side), root)
    return root


def _graph(profile: str) -> str:
    return f"graphs/step.{profile}.onnx"


def _manifest(root: Path, side: int) -> Manifest:
    files = {
        path.relative_to(root).as_posix(): FileSpec(
            hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size
        )
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }
    wiring = {"images": "images", "carry.h": "carry.h"}
    results = {"actions": "actions", "kept": "kept", "carry.h.next": "carry.h"}
    return Manifest(
        format_version=1,
        name="colourful",
        family="test",
        license="Apache-2.0",
        created="2025-01-01T00:00:00Z",
        producer={"saccade": "test"},
        views=(ViewSpec("scene", side, side), ViewSpec("wrist", side, side)),
        proprio=VectorSpec(("tcp_x", "tcp_y", "tcp_z", "gripper_opening"), ("m",) * 4),
        instruction=InstructionSpec("tokenizer.json", "{instruction}", TEXT, 0),
        sequence=(SegmentSpec("visual", GRID.tokens), SegmentSpec("text", TEXT)),
        action=ActionSpec(("dx", "dy", "dz", "gripper"), ("m", "m", "m", "1"), CHUNK, 20.0, "delta_ee"),
        statistics="statistics.json",
        statistics_key="saccade_shapes",
        tensors=_tensors(side),
        carry=(CarrySpec("carry.h", 0.0),),
        profiles=tuple(
            ProfileSpec(name, keep, ratio, (StageSpec("step", _graph(name), wiring, results),))
            for name, (keep, ratio) in KEEPS.items()
        ),
        policy=PolicySpec("most_colour", {}, WARMUP_STEPS, 0),
        grid=GRID,
        limits=LimitsSpec((-0.02,) * 3 + (0.0,), (0.02,) * 3 + (1.0,), (0.04,) * 3 + (1.0,)),
        files=files,
    )


def _tensors(side: int) -> tuple[TensorSpec, ...]:
    image_dims = ("batch", "views", "height", "width", "channels")
    return (
        TensorSpec("images", "uint8", (1, 2, side, side, 3), image_dims, "1", TensorRole.HOST),
        TensorSpec("carry.h", "float32", (1, GRID.tokens), ("batch", "tokens"), "1", TensorRole.CARRY),
        TensorSpec("actions", "float32", (1, CHUNK, 4), ("batch", "chunk", "action"), "1", TensorRole.RESULT),
        TensorSpec("kept", "int64", (1, -1), ("batch", "keep"), "index", TensorRole.RESULT),
    )


def _model(keep: int, side: int) -> onnx.ModelProto:
    node, patch = helper.make_node, side // GRID.rows
    nodes = [
        node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        node("ReduceMax", ["pixels", "channels"], ["largest"], keepdims=0),
        node("ReduceMin", ["pixels", "channels"], ["smallest"], keepdims=0),
        node("Sub", ["largest", "smallest"], ["colour"]),
        node("Reshape", ["colour", "patches"], ["patch_pixels"]),
        node("ReduceMean", ["patch_pixels", "within_patch"], ["patch_colour"], keepdims=0),
        node("Reshape", ["patch_colour", "tokens"], ["token_colour"]),
        node("Div", ["token_colour", "white"], ["score"]),
        node("Mul", ["carry.h", "half"], ["remembered"]),
        node("Add", ["remembered", "score"], ["carry.h.next"]),
        node("TopK", ["carry.h.next", "keep"], ["_top", "unsorted"], axis=1),
        node("TopK", ["unsorted", "keep"], ["kept", "_order"], axis=1, largest=0),
        node("Identity", ["lower"], ["actions"]),
    ]
    lower = np.zeros((1, CHUNK, 4), np.float32)
    lower[..., 2:] = -LOWER_M / 0.02, 1
    constants = {
        "channels": np.array([4]),
        "patches": np.array([GRID.views, GRID.rows, patch, GRID.columns, patch]),
        "within_patch": np.array([2, 4]),
        "tokens": np.array([1, GRID.tokens]),
        "white": np.array(255, np.float32),
        "half": np.array(0.5, np.float32),
        "keep": np.array([keep]),
        "lower": lower,
    }
    specs = {spec.name: spec.resolve(keep=keep) for spec in _tensors(side)}

    def port(name: str) -> onnx.ValueInfoProto:
        spec = specs[name.removesuffix(".next")]
        return helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype)), list(spec.shape)
        )

    graph = helper.make_graph(
        nodes,
        "colourful",
        [port("images"), port("carry.h")],
        [port("actions"), port("kept"), port("carry.h.next")],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
