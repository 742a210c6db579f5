"""What the tests of Qwen2.5-VL and Qwen3-VL share: the reference's own preprocessing, its inputs, and a comparison."""

from __future__ import annotations

import functools
import importlib.util
import json
import sys
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from saccade.export.families.deployment import Deployment
from saccade.export.families.generating import SequenceInputs, generate
from saccade.export.families.prompt_layout import VISUAL_TOKEN, PromptLayout
from saccade.export.families.qwen_vl.model import QwenVl
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.shards import StoredWeights
from saccade.export.loading.weights import load_weights
from tests.export.families.published import normalised, pictures

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
CAMERA = (27, 43)
"""Height and width of pictures as they come: 3 x 5 visual tokens."""


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


def token_inputs(prompt_layout: PromptLayout, question: list[int], *, video: bool) -> dict[str, Tensor]:
    """The prompt for the reference: ids, what kind each token is, and the mask."""
    mark = VIDEO if video else IMAGE
    ids = torch.tensor([[mark if item == VISUAL_TOKEN else item for item in prompt_layout.items] + question])
    kinds = torch.where(ids == mark, 2 if video else 1, 0)
    return {"input_ids": ids, "mm_token_type_ids": kinds, "attention_mask": torch.ones_like(ids)}


def text_inputs(*questions: list[int]) -> tuple[Tensor, Tensor]:
    """Padded ids and lengths of one or several questions, for our model."""
    padded = torch.tensor([question + [0] * (TEXT - len(question)) for question in questions])
    return padded, torch.tensor([len(question) for question in questions])


@torch.no_grad()
def check_same(
    theirs: Any, model: QwenVl, images: NDArray[np.uint8], question: list[int], inputs: dict[str, Any]
) -> None:
    """Final states, logits and generated ids of one robot, token by token where each stands in the prompt."""
    padded, lengths = text_inputs(question)
    features = model.features(torch.from_numpy(images)[None])
    visual, deep = model.embed_visual(features.last), model.embed_deep(features.deep)
    ours = model.sequence_inputs(lengths)
    expected = theirs(**inputs, output_hidden_states=True)
    states = model.run(model.embed(visual, padded), ours, deep)[ours.mask]
    places = ours.order[ours.mask]
    assert sorted(places.tolist()) == list(range(inputs["input_ids"].shape[1]))
    torch.testing.assert_close(states, expected.hidden_states[-1][0, places], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(model.logits(states), expected.logits[0, places], atol=1e-4, rtol=1e-4)
    generated = theirs.generate(
        **inputs, max_new_tokens=6, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    found = generate(model, visual, padded, lengths, 6, run=partial(model.run, deep=deep))
    assert found.tolist() == generated[:, inputs["input_ids"].shape[1] :].tolist()


@torch.no_grad()
def check_thinned(theirs: Any, model: QwenVl, processor: dict[str, Any]) -> None:
    """A prompt without some visual tokens, against the reference where nobody may see those."""
    images = pictures(1, *model.config.tower.picture_size)
    features = model.features(torch.from_numpy(images)[None])
    padded, lengths = text_inputs(QUESTIONS[2])
    whole, kept = model.sequence_inputs(lengths), torch.tensor([0, 3, 4, 9, 14])
    span = model.layout.span("visual")
    alive = torch.cat(
        [torch.arange(span.start), kept + span.start, torch.arange(span.stop, model.layout.tokens)]
    )
    thin = SequenceInputs(whole.mask[:, alive], whole.positions[:, :, alive], whole.order[:, alive])
    deep = model.embed_deep(tuple(x[:, kept] for x in features.deep))
    states = model.run(model.embed(model.embed_visual(features.last[:, kept]), padded), thin, deep)
    inputs = {
        **token_inputs(model.prompt_layout, QUESTIONS[2], video=False),
        **still_inputs(images, processor),
    }
    seen = torch.zeros_like(inputs["attention_mask"])
    places = thin.order[thin.mask]
    seen[0, places] = 1
    positions = theirs.model.get_rope_index(
        inputs["input_ids"], inputs["mm_token_type_ids"], inputs["image_grid_thw"]
    )[0]
    expected = theirs(**{**inputs, "attention_mask": seen}, position_ids=positions, output_hidden_states=True)
    torch.testing.assert_close(states[thin.mask], expected.hidden_states[-1][0, places], atol=1e-4, rtol=1e-4)


def load(family: ModuleType, folder: Path, **changes: Any) -> QwenVl:
    """Our model of a checkpoint, deployed for :data:`CAMERA` unless changed."""
    config = family.read_config(CheckpointFolder(folder), deployment(**changes))
    model: QwenVl = family.build(config)
    load_weights(model, StoredWeights(folder), family.key_rules(config))
    return model.eval().requires_grad_(False)


def deployment(**changes: Any) -> Deployment:
    """How a model is used unless changed."""
    fixed = {"image_size": CAMERA, "before": BEFORE, "between": BETWEEN, "max_text_tokens": TEXT}
    return Deployment(**{**fixed, **changes})


def edit_config(folder: Path, part: tuple[str, ...], change: dict[str, object]) -> None:
    """Change fields of an object in ``config.json``."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    inner = config
    for name in part:
        inner = inner[name]
    inner.update(change)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
