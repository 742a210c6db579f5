"""A real bundle, small enough to compute by hand: two views, a carry, two profiles.

Per visual token (one pixel block of a view) the graph takes ``s = sum of the block / 255``; the carry ``h`` becomes
``h + s``; the ``keep`` tokens of largest *new* ``h`` are kept. Every action of the chunk is
``(tanh(sum of kept s) / 2, proprio[0] + number of valid text tokens / 100)``, normalised.

Options: with ``reads_scores``, ``h`` counts times its view's score where tokens are chosen; with ``merges``, a token of
even number that is not kept goes into the first one that is.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
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
from saccade.proto.policy_spec import CameraCutSpec, GateSpec, PolicySpec
from saccade.proto.tensor_names import FATE, VIEW_SCORES
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


@dataclass(frozen=True, kw_only=True)
class TinyOptions:
    """What else the bundle can do; see the module docstring."""

    reads_scores: bool = False
    merges: bool = False
    gate: GateSpec | None = None
    camera_cut: CameraCutSpec | None = None


PLAIN = TinyOptions()


def write_tiny_bundle(
    root: Path,
    *,
    side: int = SIDE,
    poison: bool = False,
    warmup_steps: int = 1,
    options: TinyOptions = PLAIN,
) -> Path:
    """Write the bundle to ``root`` and return it.

    Args:
        root: A directory that does not exist yet.
        side: Pixels of a view's side, a multiple of 2.
        poison: Divide the first action by ``proprio[1]``, so that 0 makes it infinite.
        warmup_steps: For the policy of the manifest.
        options: What else it can do.
    """
    (root / "graphs").mkdir(parents=True)
    weights = np.array([0.5, 0.01], np.float32)
    (root / "graphs" / "weights.bin").write_bytes(weights.tobytes())
    for profile, keep in KEEPS.items():
        model = _model(keep, side, options, poison=poison)
        (root / "graphs" / f"step.{profile}.onnx").write_bytes(model.SerializeToString())
    write_tokenizer(root / "tokenizer.json")
    low_high = {"q01": [-0.02, 0.0], "q99": [0.02, 1.0], "mask": [True, False]}
    statistics = {"tiny": {"action": low_high, "proprio": {"q01": [-1.0, -1.0], "q99": [1.0, 1.0]}}}
    (root / "statistics.json").write_text(json.dumps(statistics))
    write_manifest(tiny_manifest(root, side=side, warmup_steps=warmup_steps, options=options), root)
    return root


def tiny_manifest(
    root: Path, *, side: int = SIDE, warmup_steps: int = 1, options: TinyOptions = PLAIN
) -> Manifest:
    """Describe the files that lie in ``root``."""
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
        tensors=_tensors(side, options),
        carry=(CarrySpec("carry.h", 0.0),),
        profiles=tuple(
            ProfileSpec(name, keep, keep / GRID.tokens, (_stage(name, options),))
            for name, keep in KEEPS.items()
        ),
        policy=PolicySpec("most_light", {}, warmup_steps, 0, options.gate, options.camera_cut),
        grid=GRID,
        limits=LimitsSpec((-0.02, 0.0), (0.02, 1.0), (0.04, 1.0)),
        files=file_specs(root),
    )


def file_specs(root: Path) -> dict[str, FileSpec]:
    """Return the size and digest of every file in ``root`` but the manifest."""
    files = [path for path in sorted(root.rglob("*")) if path.is_file() and path.name != "manifest.json"]
    return {
        path.relative_to(root).as_posix(): FileSpec(
            hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size
        )
        for path in files
    }


def tiny_observation(
    seed: int = 0,
    *,
    side: int = SIDE,
    captured_ns: int = 0,
    sequence: int = 1,
    wants_telemetry: bool = False,
) -> Observation:
    """Return a random observation."""
    random = np.random.default_rng(seed)
    images = {view: random.integers(0, 256, (side, side, 3), np.uint8) for view in VIEWS}
    proprio = random.uniform(0.1, 0.5, 2).astype(np.float32)
    return Observation(images, proprio, captured_ns, sequence, wants_telemetry)


def tiny_step(
    observation: Observation,
    carry: NDArray[np.float32],
    keep: int,
    valid_text: int,
    scores: tuple[float, ...] = (1, 1),
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]:
    """The model in numpy: physical actions ``(chunk, 2)``, kept ``(keep,)``, next carry ``(tokens,)``."""
    images = np.stack([observation.images[view] for view in VIEWS]).astype(np.float32)
    block = images.shape[1] // GRID.rows
    blocks = images.reshape(GRID.views, GRID.rows, block, GRID.columns, block, 3)
    light = blocks.mean((2, 4, 5)).reshape(-1) / 255
    carry = carry + light
    weights = np.repeat(np.array(scores, np.float32), GRID.rows * GRID.columns)
    kept = np.sort(np.argsort(-carry * weights, kind="stable")[:keep])
    first = np.tanh(light[kept].sum()) * 0.5
    second = observation.proprio[0] + valid_text * 0.01
    action = np.array([first * 0.02, second], np.float32)
    return np.tile(action, (CHUNK, 1)), kept, carry.astype(np.float32)


def tiny_fate(kept: NDArray[np.int64], *, merges: bool) -> list[int]:
    """What becomes of each token."""
    rest = [int(kept[0]) if merges and token % 2 == 0 else -1 for token in range(GRID.tokens)]
    return [token if token in kept else rest[token] for token in range(GRID.tokens)]


def _tensors(side: int, options: TinyOptions) -> tuple[TensorSpec, ...]:
    host, task, result = TensorRole.HOST, TensorRole.TASK, TensorRole.RESULT
    image_dims = ("batch", "views", "height", "width", "channels")
    scores = TensorSpec(VIEW_SCORES, "float32", (1, GRID.views), ("batch", "views"), "1", task)
    fate = TensorSpec(FATE, "int64", (1, GRID.tokens), ("batch", "tokens"), "index", result)
    return (
        TensorSpec("images", "uint8", (1, 2, side, side, 3), image_dims, "1", host),
        TensorSpec("proprio", "float32", (1, 2), ("batch", "dim"), "1", host),
        TensorSpec("token_ids", "int64", (1, TEXT), ("batch", "tokens"), "token", host),
        TensorSpec("attention_mask", "bool", (1, POSITIONS), ("batch", "tokens"), "1", host),
        TensorSpec("carry.h", "float32", (1, GRID.tokens), ("batch", "tokens"), "1", TensorRole.CARRY),
        TensorSpec("actions", "float32", (1, CHUNK, 2), ("batch", "chunk", "action"), "1", result),
        TensorSpec("kept", "int64", (1, -1), ("batch", "keep"), "index", result),
        *((scores,) if options.reads_scores else ()),
        *((fate,) if options.merges else ()),
    )


def _stage(profile: str, options: TinyOptions) -> StageSpec:
    inputs = ["images", "proprio", "token_ids", "attention_mask", "carry.h"]
    outputs = {"actions": "actions", "kept": "kept", "carry.h.next": "carry.h"}
    inputs += [VIEW_SCORES] if options.reads_scores else []
    outputs |= {FATE: FATE} if options.merges else {}
    return StageSpec("step", f"graphs/step.{profile}.onnx", {name: name for name in inputs}, outputs)


def write_tokenizer(path: Path) -> None:
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


def _model(keep: int, side: int, options: TinyOptions, *, poison: bool) -> onnx.ModelProto:
    node, block = helper.make_node, side // GRID.rows
    nodes = [
        node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        node("Reshape", ["pixels", "block_shape"], ["blocks"]),
        node("ReduceMean", ["blocks", "block_axes"], ["mean"], keepdims=0),
        node("Reshape", ["mean", "token_shape"], ["light255"]),
        node("Div", ["light255", "white"], ["light"]),
        node("Add", ["carry.h", "light"], ["carry.h.next"]),
        *_scoring(options),
        node("TopK", ["worth", "keep"], ["_top", "unsorted"], axis=1),
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
        *_merging(options),
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
        _constant("per_view", GRID.rows * GRID.columns),
        _constant("all_tokens", [np.arange(GRID.tokens)]),
        _constant("is_even", [np.arange(GRID.tokens) % 2 == 0], np.bool_),
        _constant("gone", -1),
    ]
    specs = {spec.name: spec.resolve(keep=keep) for spec in _tensors(side, options)}
    stage = _stage("full", options)
    inputs = [_port(name, specs[name]) for name in stage.inputs]
    outputs = [_port(port, specs[name]) for port, name in stage.outputs.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def _scoring(options: TinyOptions) -> list[onnx.NodeProto]:
    node = helper.make_node
    if not options.reads_scores:
        return [node("Identity", ["carry.h.next"], ["worth"])]
    return [
        node("Div", ["all_tokens", "per_view"], ["view_of"]),
        node("GatherElements", [VIEW_SCORES, "view_of"], ["weights"], axis=1),
        node("Mul", ["carry.h.next", "weights"], ["worth"]),
    ]


def _merging(options: TinyOptions) -> list[onnx.NodeProto]:
    node = helper.make_node
    if not options.merges:
        return []
    return [
        node("Slice", ["kept", "zero", "one", "axis1"], ["first_kept"]),
        node("Where", ["is_even", "first_kept", "gone"], ["unless_kept"]),
        node("ScatterElements", ["unless_kept", "kept", "kept"], [FATE], axis=1),
    ]


def _port(name: str, spec: TensorSpec) -> onnx.ValueInfoProto:
    dtype = helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype))
    return helper.make_tensor_value_info(name, dtype, list(spec.shape))
