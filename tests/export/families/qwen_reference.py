"""What the tests of Qwen2.5-VL and Qwen3-VL share: the reference's own preprocessing, its inputs, and a comparison."""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import torch
import transformers
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from saccade.export.families.generating import SequenceInputs, generate
from saccade.export.families.prompt_frame import VISUAL_TOKEN, PromptFrame
from saccade.export.families.qwen_vl import QwenVl
from saccade.export.graph.capture import StepPorts, to_graph
from tests.export.families.published import normalised

IMAGE, VIDEO, START, END = 90, 91, 92, 93
BEFORE, BETWEEN, TEXT, PATCH = (1, 7, 8), (6,), 20, 4
TOKENS = {
    "image_token_id": IMAGE,
    "video_token_id": VIDEO,
    "vision_start_token_id": START,
    "vision_end_token_id": END,
}
CUTTING = {"patch_size": PATCH, "merge_size": 2, "temporal_patch_size": 2}
QUESTIONS = ([11, 12, 13], [50], [3, 4, 5, 6, 7, 8, 9])
RunDecoder = Callable[[Tensor, SequenceInputs], Tensor]


@functools.cache
def video_module() -> Any:
    """Qwen3-VL's video processor from its source: the package hides it where torchvision is missing."""
    path = Path(transformers.__file__).parent / "models/qwen3_vl/video_processing_qwen3_vl.py"
    spec = importlib.util.spec_from_file_location("transformers.models.qwen3_vl.video_source", path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def resized(images: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """What the host makes of pictures, uint8 ``(count, height, width, 3)``."""
    height, width = size
    return np.stack(
        [np.asarray(Image.fromarray(x).resize((width, height), Image.Resampling.BICUBIC)) for x in images]
    )


def still_inputs(images: NDArray[np.uint8], processor: dict[str, Any]) -> dict[str, Tensor]:
    """What the reference makes of pictures as they come."""
    made = Qwen2VLImageProcessorPil(**processor)(images=list(images), return_tensors="pt")
    return {"pixel_values": made["pixel_values"], "image_grid_thw": made["image_grid_thw"]}


def video_inputs(videos: NDArray[np.uint8], processor: dict[str, Any]) -> dict[str, Tensor]:
    """What the reference makes of videos of the right size, uint8 ``(videos, frames, height, width, 3)``."""
    pixels = torch.stack([normalised(video, processor) for video in videos])
    rows, *grid = video_module().Qwen3VLVideoProcessor.patchify(None, pixels, PATCH, 2, 2)
    return {
        "pixel_values_videos": rows.flatten(0, 1),
        "video_grid_thw": torch.tensor([grid] * len(videos)),
    }


def token_inputs(frame: PromptFrame, question: list[int], *, video: bool) -> dict[str, Tensor]:
    """The prompt for the reference: ids, what kind each token is, and the mask."""
    mark = VIDEO if video else IMAGE
    ids = torch.tensor([[mark if item == VISUAL_TOKEN else item for item in frame.items] + question])
    kinds = torch.where(ids == mark, 2 if video else 1, 0)
    return {"input_ids": ids, "mm_token_type_ids": kinds, "attention_mask": torch.ones_like(ids)}


def text_inputs(*questions: list[int]) -> tuple[Tensor, Tensor]:
    """Padded ids and lengths of one or several questions, for our model."""
    padded = torch.tensor([question + [0] * (TEXT - len(question)) for question in questions])
    return padded, torch.tensor([len(question) for question in questions])


def check_same(
    theirs: Any,
    model: QwenVl,
    visual: Tensor,
    question: list[int],
    inputs: dict[str, Any],
    run: RunDecoder | None = None,
) -> None:
    """Final states, logits and generated ids of one robot, token by token where each stands in the prompt."""
    padded, lengths = text_inputs(question)
    ours = model.sequence_inputs(lengths)
    expected = theirs(**inputs, output_hidden_states=True)
    states = (run or model.run)(model.embed(visual, padded), ours)[ours.mask]
    places = ours.order[ours.mask]
    assert sorted(places.tolist()) == list(range(inputs["input_ids"].shape[1]))
    torch.testing.assert_close(states, expected.hidden_states[-1][0, places], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(model.logits(states), expected.logits[0, places], atol=1e-4, rtol=1e-4)
    generated = theirs.generate(
        **inputs, max_new_tokens=6, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    found = generate(model, visual, padded, lengths, 6, run=run)
    assert found.tolist() == generated[:, inputs["input_ids"].shape[1] :].tolist()


def check_graph(prefill: nn.Module, example: tuple[Tensor, ...], path: Path) -> ir.Model:
    """Export, run in ONNX Runtime and compare; return the graph."""
    names = ("images", "ids", "lengths")
    graph = to_graph(prefill.eval(), example, StepPorts(names, ("logits",)), "the prompt")
    ir.save(graph, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    feeds = dict(zip(names, (x.numpy() for x in example), strict=True))
    (found,) = session.run(None, feeds)
    np.testing.assert_allclose(found, prefill(*example).numpy(), atol=1e-4, rtol=1e-4)
    return graph
