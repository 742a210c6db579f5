"""A real bundle that answers, small enough to compute by hand, and whose answers never end by themselves.

The prompt reduces pictures and question to one number, ``state = (floor(mean of the pixels) + sum of the tokens +
keep) mod NAMES``; each further token makes it ``(5 * state + token + position) mod NAMES``. The likeliest token is
always number ``state`` of the words that an answer may have. A question that begins with ``forever`` has a prompt that
never ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.decoders import Decoder

from saccade.proto.answer_spec import AnswerSpec
from saccade.proto.bundle_kind import BundleKind
from saccade.proto.manifest import (
    GridSpec,
    InstructionSpec,
    Manifest,
    ProfileSpec,
    SegmentSpec,
    StageSpec,
    VectorSpec,
    ViewSpec,
    write_manifest,
)
from saccade.proto.picture_fit import FitMethod, PictureFit, Resample
from saccade.proto.policy_spec import PolicySpec
from saccade.proto.tensor_spec import TensorRole, TensorSpec
from saccade.proto.video_spec import FrameSampling, VideoSpec
from tests.tiny_bundle import file_specs

ASKED = ("[UNK]", "<end>", "what", "is", "here", "forever")
NAMES = 26
WORDS = (*ASKED, *(f"w{number}" for number in range(NAMES)))
FOREVER = ASKED.index("forever")
TEXT = 4
GRID = GridSpec(views=1, rows=2, columns=2)
KEEPS = {"full": 4, "keep50": 2}
FIRST_POSITION = GRID.tokens
SIDE = 6
PICTURE_FIT = PictureFit(FitMethod.STRETCH, Resample.BILINEAR)


def write_tiny_answerer(
    root: Path,
    *,
    max_new_tokens: int = 1_000_000,
    poison_position: int = 1 << 40,
    frames: int = 0,
    decoder: Decoder | None = None,
    spoken: Mapping[int, str] = MappingProxyType({}),
    text: int = TEXT,
    template: str = "{instruction}",
) -> Path:
    """Write the bundle to ``root``, which does not exist yet, and return it.

    Args:
        root: Where.
        max_new_tokens: As many tokens has an answer unless fewer are asked for.
        poison_position: From this position on logits are not finite.
        frames: Of the one video that it looks at; 0 = at one picture.
        decoder: Decoder of its tokenizer; None = words with spaces between.
        spoken: Words that an answer may have in the place of ``w0``, ``w1`` ..., by number.
        text: Room for a question, in words.
        template: Of the prompt.
    """
    (root / "graphs").mkdir(parents=True)
    for profile, keep in KEEPS.items():
        prompt = _prompt(keep, max(frames, 1), text)
        (root / f"graphs/prompt.{profile}.onnx").write_bytes(prompt.SerializeToString())
    (root / "graphs/token.onnx").write_bytes(_token(poison_position).SerializeToString())
    words = {word: index for index, word in enumerate(words_with(spoken))}
    tokenizer = Tokenizer(models.WordLevel(words, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(["<end>"])
    if decoder is not None:
        tokenizer.decoder = decoder
    tokenizer.save(str(root / "tokenizer.json"))
    instruction = InstructionSpec("tokenizer.json", template, text, 0)
    write_manifest(_manifest(root, instruction, max_new_tokens, frames), root)
    return root


def words_with(spoken: Mapping[int, str]) -> tuple[str, ...]:
    """All words of a bundle that speaks some others."""
    return (*ASKED, *(spoken.get(number, f"w{number}") for number in range(NAMES)))


def tiny_answer(
    picture: NDArray[np.uint8], question: str, keep: int, tokens: int, words: tuple[str, ...] = WORDS
) -> list[int]:
    """The greedy answer in plain Python; ``picture`` may be several."""
    ids = [words.index(word) if word in words else 0 for word in question.split()]
    state = (int(np.floor(picture.astype(np.float32).mean())) + sum(ids) + keep) % NAMES
    answer = []
    for number in range(tokens):
        answer.append(len(ASKED) + state)
        state = (5 * state + answer[-1] + FIRST_POSITION + len(ids) + number) % NAMES
    return answer


def tiny_picture(seed: int = 0) -> NDArray[np.uint8]:
    """Return a random picture of the right size."""
    return np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


def _manifest(root: Path, instruction: InstructionSpec, max_new_tokens: int, frames: int) -> Manifest:
    video = VideoSpec(frames, FrameSampling.FROM_START) if frames else None
    return Manifest(
        format_version=1,
        kind=BundleKind.ANSWER,
        name="tiny answerer",
        family="test",
        license="Apache-2.0",
        created="2025-01-01T00:00:00Z",
        producer={"saccade": "test"},
        views=tuple(ViewSpec(f"image{index}", SIDE, SIDE) for index in range(max(frames, 1))),
        proprio=VectorSpec((), ()),
        instruction=instruction,
        sequence=(SegmentSpec("visual", GRID.tokens), SegmentSpec("text", instruction.max_tokens)),
        answer=AnswerSpec(len(WORDS), max_new_tokens, FIRST_POSITION, (1,), PICTURE_FIT, video),
        tensors=tuple(_tensors(max(frames, 1), instruction.max_tokens).values()),
        carry=(),
        profiles=tuple(_profile(name, keep) for name, keep in KEEPS.items()),
        policy=PolicySpec("keep_all", {}, 0, 0),
        grid=GRID,
        files=file_specs(root),
    )


def _profile(name: str, keep: int) -> ProfileSpec:
    prompt = StageSpec(
        "prompt",
        f"graphs/prompt.{name}.onnx",
        {port: port for port in ("images", "token_ids")},
        {"logits": "logits", "kept": "kept", "cache.state.next": "cache.state"},
    )
    token = StageSpec(
        "token",
        "graphs/token.onnx",
        {port: port for port in ("token", "token_position", "cache.state")},
        {"logits": "logits", "cache.state.next": "cache.state"},
    )
    return ProfileSpec(name, keep, keep / GRID.tokens, (prompt,), (token,))


def _tensors(views: int, text: int = TEXT) -> dict[str, TensorSpec]:
    host, result = TensorRole.HOST, TensorRole.RESULT
    image_dims = ("batch", "views", "height", "width", "channels")
    specs = (
        TensorSpec("images", "uint8", (1, views, SIDE, SIDE, 3), image_dims, "1", host),
        TensorSpec("token_ids", "int64", (1, text), ("batch", "text"), "token", host),
        TensorSpec("token", "int64", (1, 1), ("batch", "text"), "token", host),
        TensorSpec("token_position", "int64", (1, 1), ("batch", "text"), "index", host),
        TensorSpec("cache.state", "int64", (1, 1), ("batch", "state"), "1", TensorRole.CACHE),
        TensorSpec("logits", "float32", (1, len(WORDS)), ("batch", "vocabulary"), "1", result),
        TensorSpec("kept", "int64", (1, -1), ("batch", "keep"), "index", result),
    )
    return {spec.name: spec for spec in specs}


def _prompt(keep: int, views: int, text: int) -> onnx.ModelProto:
    node = helper.make_node
    nodes = [
        node("Gather", ["token_ids", "zero"], ["first"], axis=1),
        node("Equal", ["first", "forever"], ["is_endless"]),
        node("Cast", ["is_endless"], ["endless"], to=TensorProto.INT64),
        node("Mul", ["endless", "many"], ["rounds"]),
        node("Loop", ["rounds", "", "nothing"], ["idle"], body=_idling()),
        node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        node("ReduceMean", ["pixels", "within"], ["mean"], keepdims=0),
        node("Floor", ["mean"], ["floor"]),
        node("Cast", ["floor"], ["brightness"], to=TensorProto.INT64),
        node("ReduceSum", ["token_ids", "axis1"], ["text"], keepdims=1),
        node("Add", ["brightness", "text"], ["seen"]),
        node("Add", ["seen", "keep"], ["counted"]),
        node("Add", ["counted", "idle"], ["sum"]),
        node("Mod", ["sum", "names"], ["cache.state.next"]),
        *_logits("all_logits"),
        node("Identity", ["all_logits"], ["logits"]),
        node("Identity", ["kept_tokens"], ["kept"]),
    ]
    constants = {
        "zero": np.array(0),
        "forever": np.array(FOREVER),
        "many": np.array(1 << 50),
        "nothing": np.array([[0]]),
        "within": np.array([1, 2, 3, 4]),
        "axis1": np.array([1]),
        "keep": np.array([[keep]]),
        "names": np.array(NAMES),
        "kept_tokens": np.arange(keep)[None],
    }
    specs = {name: spec.resolve(keep=keep) for name, spec in _tensors(views, text).items()}
    return _model(nodes, constants, specs, ("images", "token_ids"), ("logits", "kept", "cache.state"))


def _idling() -> onnx.GraphProto:
    """A round of a loop that changes nothing."""
    scalar = helper.make_tensor_value_info
    return helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Identity", ["before"], ["behind"]),
        ],
        "idling",
        [
            scalar("round", TensorProto.INT64, []),
            scalar("go", TensorProto.BOOL, []),
            scalar("before", TensorProto.INT64, [1, 1]),
        ],
        [scalar("go_on", TensorProto.BOOL, []), scalar("behind", TensorProto.INT64, [1, 1])],
    )


def _token(poison_position: int) -> onnx.ModelProto:
    node = helper.make_node
    nodes = [
        node("Mul", ["cache.state", "five"], ["times"]),
        node("Add", ["times", "token"], ["more"]),
        node("Add", ["more", "token_position"], ["sum"]),
        node("Mod", ["sum", "names"], ["cache.state.next"]),
        *_logits("finite"),
        node("Less", ["token_position", "poison"], ["is_sound"]),
        node("Where", ["is_sound", "finite", "nan"], ["logits"]),
    ]
    constants = {
        "five": np.array(5),
        "names": np.array(NAMES),
        "poison": np.array(poison_position),
        "nan": np.array(np.nan, np.float32),
    }
    specs = {name: spec.resolve(keep=1) for name, spec in _tensors(1).items()}
    return _model(
        nodes, constants, specs, ("token", "token_position", "cache.state"), ("logits", "cache.state")
    )


def _logits(name: str) -> list[onnx.NodeProto]:
    """Highest at the word that the state stands for."""
    node = helper.make_node
    return [
        node("Add", ["cache.state.next", "asked"], ["peak"]),
        node("Sub", ["vocabulary", "peak"], ["distance"]),
        node("Abs", ["distance"], ["away"]),
        node("Neg", ["away"], ["near"]),
        node("Cast", ["near"], [name], to=TensorProto.FLOAT),
    ]


def _model(
    nodes: list[onnx.NodeProto],
    constants: dict[str, NDArray[np.generic]],
    specs: dict[str, TensorSpec],
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
) -> onnx.ModelProto:
    constants = {**constants, "asked": np.array(len(ASKED)), "vocabulary": np.arange(len(WORDS))[None]}

    def port(name: str, *, is_output: bool = False) -> onnx.ValueInfoProto:
        spec = specs[name]
        suffix = ".next" if is_output and spec.role is TensorRole.CACHE else ""
        dtype = helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype))
        return helper.make_tensor_value_info(name + suffix, dtype, list(spec.shape))

    initializers = [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(
        nodes,
        "answerer",
        [port(name) for name in inputs],
        [port(name, is_output=True) for name in outputs],
        initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
