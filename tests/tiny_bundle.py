"""A real bundle, small enough to compute by hand: two views, a carry, two profiles.

Per visual token (one pixel block of a view) the graph takes ``s = sum of the block / 255``; the carry ``h`` becomes
``h + s``; the ``keep`` tokens of largest *new* ``h`` are kept. Every action of the chunk is
``(tanh(sum of kept s) / 2, proprio[0] + number of valid text tokens / 100)``, normalised.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from saccade.proto.manifest import (
    ActionSpec,
    CarrySpec,
    FileSpec,
    GridSpec,
    InstructionSpec,
    LimitsSpec,
    Manifest,
    PolicySpec,
    ProfileSpec,
    SegmentSpec,
    StageSpec,
    VectorSpec,
    ViewSpec,
    write_manifest,
)
from saccade.proto.tensor_spec import TensorRole, TensorSpec
from saccade.runtime.observation import Observation

VIEWS = ("scene", "wrist")
SIDE = 8
GRID = GridSpec(views=2, rows=2, columns=2)
BLOCK = SIDE // GRID.rows
CHUNK = 3
TEXT = 6
POSITIONS = 1 + GRID.tokens + 1 + TEXT
KEEPS = {"full": GRID.tokens, "keep50": GRID.tokens // 2}
WORDS = ("push", "reach", "the", "red", "blue", "cube", "[UNK]")


def write_tiny_bundle(root: Path, *, side: int = SIDE, poison: bool = False, warmup_steps: int = 1) -> Path:
    """Write the bundle to ``root`` and return it.

    Args:
        root: A directory that does not exist yet.
        side: Pixels of a view's side, a multiple of 2.
        poison: Divide the first action by ``proprio[1]``, so that 0 makes it infinite.
        warmup_steps: For the policy of the manifest.
    """
    (root / "graphs").mkdir(parents=True)
    weights = np.array([0.5, 0.01], np.float32)
    (root / "graphs" / "weights.bin").write_bytes(weights.tobytes())
    for profile, keep in KEEPS.items():
        model = _model(keep, side, poison=poison)
        (root / "graphs" / f"step.{profile}.onnx").write_bytes(model.SerializeToString())
    _write_tokenizer(root / "tokenizer.json")
    low_high = {"q01": [-0.02, 0.0], "q99": [0.02, 1.0], "mask": [True, False]}
    statistics = {"tiny": {"action": low_high, "proprio": {"q01": [-1.0, -1.0], "q99": [1.0, 1.0]}}}
    (root / "statistics.json").write_text(json.dumps(statistics))
    write_manifest(tiny_manifest(root, side=side, warmup_steps=warmup_steps), root)
    return root


def tiny_manifest(root: Path, *, side: int = SIDE, warmup_steps: int = 1) -> Manifest:
    """Describe the files that lie in ``root``."""
    files = [path for path in sorted(root.rglob("*")) if path.is_file() and path.name != "manifest.json"]
    return Manifest(
        format_version=1,
        name="tiny",
        family="test",
        license="Apache-2.0",
        created="2025-01-01T00:00:00Z",
        producer={"saccade": "test"},
        views=tuple(ViewSpec(name, side, side) for name in VIEWS),
        proprio=VectorSpec(("x", "y"), ("m", "m")),
        instruction=InstructionSpec("tokenizer.json", "{instruction}", TEXT, 0),
        sequence=(
            SegmentSpec("bos", 1),
            SegmentSpec("visual", GRID.tokens),
            SegmentSpec("text", TEXT),
            SegmentSpec("eos", 1),
        ),
        action=ActionSpec(("dx", "gripper"), ("m", "1"), CHUNK, 20.0, "delta_ee"),
        statistics="statistics.json",
        statistics_key="tiny",
        tensors=_tensors(side),
        carry=(CarrySpec("carry.h", 0.0),),
        profiles=tuple(
            ProfileSpec(name, keep, keep / GRID.tokens, (_stage(name),)) for name, keep in KEEPS.items()
        ),
        policy=PolicySpec("most_light", {}, warmup_steps, 0),
        grid=GRID,
        limits=LimitsSpec((-0.02, 0.0), (0.02, 1.0), (0.04, 1.0)),
        files={
            path.relative_to(root).as_posix(): FileSpec(
                hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size
            )
            for path in files
        },
    )


def tiny_observation(
    seed: int = 0, *, side: int = SIDE, captured_ns: int = 0, sequence: int = 1
) -> Observation:
    """Return a random observation."""
    random = np.random.default_rng(seed)
    images = {view: random.integers(0, 256, (side, side, 3), np.uint8) for view in VIEWS}
    return Observation(images, random.uniform(0.1, 0.5, 2).astype(np.float32), captured_ns, sequence)


def tiny_step(
    observation: Observation, carry: NDArray[np.float32], keep: int, valid_text: int
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]:
    """The model in numpy: physical actions ``(chunk, 2)``, kept ``(keep,)``, next carry ``(tokens,)``."""
    images = np.stack([observation.images[view] for view in VIEWS]).astype(np.float32)
    block = images.shape[1] // GRID.rows
    blocks = images.reshape(GRID.views, GRID.rows, block, GRID.columns, block, 3)
    light = blocks.mean((2, 4, 5)).reshape(-1) / 255
    carry = carry + light
    kept = np.sort(np.argsort(-carry, kind="stable")[:keep])
    first = np.tanh(light[kept].sum()) * 0.5
    second = observation.proprio[0] + valid_text * 0.01
    action = np.array([first * 0.02, second], np.float32)
    return np.tile(action, (CHUNK, 1)), kept, carry.astype(np.float32)


def _tensors(side: int) -> tuple[TensorSpec, ...]:
    host, result = TensorRole.HOST, TensorRole.RESULT
    image_dims = ("batch", "views", "height", "width", "channels")
    return (
        TensorSpec("images", "uint8", (1, 2, side, side, 3), image_dims, "1", host),
        TensorSpec("proprio", "float32", (1, 2), ("batch", "dim"), "1", host),
        TensorSpec("token_ids", "int64", (1, TEXT), ("batch", "tokens"), "token", host),
        TensorSpec("attention_mask", "bool", (1, POSITIONS), ("batch", "tokens"), "1", host),
        TensorSpec("carry.h", "float32", (1, GRID.tokens), ("batch", "tokens"), "1", TensorRole.CARRY),
        TensorSpec("actions", "float32", (1, CHUNK, 2), ("batch", "chunk", "action"), "1", result),
        TensorSpec("kept", "int64", (1, -1), ("batch", "keep"), "index", result),
    )


def _stage(profile: str) -> StageSpec:
    inputs = ("images", "proprio", "token_ids", "attention_mask", "carry.h")
    return StageSpec(
        "step",
        f"graphs/step.{profile}.onnx",
        {name: name for name in inputs},
        {"actions": "actions", "kept": "kept", "carry.h.next": "carry.h"},
    )


def _write_tokenizer(path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({word: index + 1 for index, word in enumerate(WORDS)}, "[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(path))


def _external(name: str, index: int) -> onnx.TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "weights.bin"), ("offset", str(4 * index)), ("length", "4")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def _constant(name: str, value: Any, dtype: Any = np.int64) -> onnx.TensorProto:
    return onnx.numpy_helper.from_array(np.array(value, dtype), name)


def _model(keep: int, side: int, *, poison: bool) -> onnx.ModelProto:
    node, block = helper.make_node, side // GRID.rows
    nodes = [
        node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        node("Reshape", ["pixels", "block_shape"], ["blocks"]),
        node("ReduceMean", ["blocks", "block_axes"], ["mean"], keepdims=0),
        node("Reshape", ["mean", "token_shape"], ["light255"]),
        node("Div", ["light255", "white"], ["light"]),
        node("Add", ["carry.h", "light"], ["carry.h.next"]),
        node("TopK", ["carry.h.next", "keep"], ["_top", "unsorted"], axis=1),
        node("TopK", ["unsorted", "keep"], ["kept", "_order"], axis=1, largest=0),
        node("GatherElements", ["light", "kept"], ["kept_light"], axis=1),
        node("ReduceSum", ["kept_light", "axis1"], ["sum"], keepdims=1),
        node("Tanh", ["sum"], ["squashed"]),
        node("Mul", ["squashed", "half"], ["first"]),
        node("Slice", ["proprio", "zero", "one", "axis1"], ["proprio_x"]),
        node("Slice", ["proprio", "one", "two", "axis1"], ["proprio_y"]),
        node("Div" if poison else "Mul", ["first", "proprio_y" if poison else "unit"], ["first_action"]),
        node("Cast", ["attention_mask"], ["valid"], to=TensorProto.FLOAT),
        node("ReduceSum", ["valid", "axis1"], ["valid_count"], keepdims=1),
        node("Sub", ["valid_count", "fixed_positions"], ["text_count"]),
        node("Mul", ["text_count", "hundredth"], ["text_part"]),
        node("Cast", ["token_ids"], ["ids"], to=TensorProto.FLOAT),
        node("ReduceSum", ["ids", "axis1"], ["id_sum"], keepdims=1),
        node("Mul", ["id_sum", "nothing"], ["id_part"]),
        node("Sum", ["proprio_x", "text_part", "id_part"], ["second_action"]),
        node("Concat", ["first_action", "second_action"], ["action"], axis=1),
        node("Unsqueeze", ["action", "axis1"], ["action_row"]),
        node("Expand", ["action_row", "chunk_shape"], ["actions"]),
    ]
    initializers = [
        _external("half", 0),
        _external("hundredth", 1),
        _constant("block_shape", [GRID.views, GRID.rows, block, GRID.columns, block, 3]),
        _constant("block_axes", [2, 4, 5]),
        _constant("token_shape", [1, GRID.tokens]),
        _constant("white", 255, np.float32),
        _constant("unit", 1, np.float32),
        _constant("nothing", 0, np.float32),
        _constant("fixed_positions", POSITIONS - TEXT, np.float32),
        _constant("keep", [keep]),
        _constant("zero", [0]),
        _constant("one", [1]),
        _constant("two", [2]),
        _constant("axis1", [1]),
        _constant("chunk_shape", [1, CHUNK, 2]),
    ]
    specs = {spec.name: spec.resolve(keep=keep) for spec in _tensors(side)}
    inputs = [_port(name, specs[name]) for name in _stage("full").inputs]
    outputs = [_port(port, specs[name]) for port, name in _stage("full").outputs.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def _port(name: str, spec: TensorSpec) -> onnx.ValueInfoProto:
    dtype = helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype))
    return helper.make_tensor_value_info(name, dtype, list(spec.shape))
