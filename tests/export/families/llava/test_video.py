"""LLaVA-Video as published against the same weights in the layout of LLaVA-OneVision, which transformers knows."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from saccade.export.families.deployment import Deployment
from saccade.export.families.llava import onevision as llava_onevision
from saccade.export.families.llava import video as llava_video
from saccade.export.families.prompts import Prompted, read_prompted
from saccade.policies.base import Grid
from saccade.proto.errors import CheckpointError, ExportError
from saccade.proto.video_spec import FrameSampling, VideoSpec
from tests.export.families.chat_checkpoints import write_onevision
from tests.export.families.published import pictures

THEIRS = (
    (r"^vision_tower\.", "model.vision_tower.vision_tower.vision_model."),
    (r"^multi_modal_projector\.linear_1\.", "model.mm_projector.0."),
    (r"^multi_modal_projector\.linear_2\.", "model.mm_projector.2."),
    (r"^language_model\.(?:model\.)?(?!lm_head)", "model."),
    (r"^language_model\.lm_head\.", "lm_head."),
    (r"^image_newline$", "model.image_newline"),
)
"""What LLaVA-OneVision's names on the Hub are in the LLaVA-NeXT repository."""
TEXT_TEMPLATE = "{% for message in messages %}{{ message['role'] + ': ' + message['content'] }}{% endfor %}"


def original_name(name: str) -> str:
    name = re.sub(r"^model\.", "", name)
    for pattern, ours in THEIRS:
        name, changed = re.subn(pattern, ours, name)
        if changed:
            break
    return name


@pytest.fixture
def converted(tmp_path: Path) -> Path:
    """In the layout of LLaVA-OneVision."""
    return write_onevision(tmp_path / "converted", newline="grid")


@pytest.fixture
def original(converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same as published: other names, one flat configuration, a tower that is named and not described."""
    values = json.loads((converted / "config.json").read_text())
    tower = {name: values["vision_config"][name] for name in llava_onevision.TOWER}
    monkeypatch.setattr(llava_video, "TOWER", tower)
    folder = tmp_path / "original"
    folder.mkdir()
    weights = load_file(converted / "model.safetensors")
    save_file({original_name(name): value for name, value in weights.items()}, folder / "model.safetensors")
    flat = {
        **values["text_config"],
        "model_type": "llava_qwen",
        "mm_vision_tower": "google/siglip-so400m-patch14-384",
        "mm_hidden_size": tower["hidden_size"],
        "mm_projector_type": "mlp2x_gelu",
        "mm_newline_position": "grid",
        "mm_spatial_pool_mode": "bilinear",
        "mm_spatial_pool_stride": 2,
        "add_faster_video": False,
    }
    (folder / "config.json").write_text(json.dumps(flat))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 2, "pad_token_id": 0}))
    (folder / "tokenizer.json").write_bytes((converted / "tokenizer.json").read_bytes())
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEXT_TEMPLATE}))
    return folder


@torch.no_grad()
def logits(prompted: Prompted) -> torch.Tensor:
    """Of every visual token."""
    model: Any = prompted.model
    frames = torch.from_numpy(pictures(3, 27, 27))[None]
    question = torch.tensor([[11, 12, 13, 0, 0, 0, 0, 0]])
    hidden = model.embed(model.embed_visual(model.visual_tokens(frames)), question)
    states = model.run(hidden, model.sequence_inputs(torch.tensor([3])))
    found: torch.Tensor = model.logits(states[:, model.layout.span("visual")])
    return found


def test_the_model_is_that_of_the_converted_checkpoint(original: Path, converted: Path) -> None:
    deployment = Deployment(frames=3, max_text_tokens=8)
    theirs = read_prompted(converted, deployment)
    ours = read_prompted(original, deployment, "<|im_start|>user <image>" + theirs.instruction.template)
    assert ours.video == VideoSpec(3, FrameSampling.BOTH_ENDS) and ours.model.grid == Grid(
        3, 3, 4, newline=True
    )
    assert (ours.picture_fit, ours.image_size) == (theirs.picture_fit, theirs.image_size)
    torch.testing.assert_close(logits(ours), logits(theirs), atol=1e-5, rtol=1e-5)


def test_the_prompt_is_the_repository_s(original: Path) -> None:
    """``conv_templates["qwen_1_5"]``; the text template of the language model beside the weights is not used."""
    prompted = read_prompted(original, Deployment(frames=2))
    assert prompted.instruction.template == "\n{instruction}<|im_end|>\n<|im_start|>assistant\n"


def test_the_published_tower_is_the_default_of_llava_onevision() -> None:
    assert llava_video.TOWER is llava_onevision.TOWER
    assert llava_video.TOWER["image_size"] == 384 and llava_video.TOWER["hidden_size"] == 1152


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"mm_vision_tower": "openai/clip-vit-large-patch14-336"},
            "mm_vision_tower: expected 'google/siglip",
        ),
        ({"mm_projector_type": "linear"}, "mm_projector_type: expected 'mlp2x_gelu', found 'linear'"),
        ({"mm_newline_position": "frame"}, "expected 'one_token' or 'grid', found 'frame'"),
        ({"mm_spatial_pool_stride": 4}, "mm_spatial_pool_stride: expected 2, found 4"),
        ({"add_faster_video": True}, "add_faster_video: expected False, found True"),
    ],
)
def test_what_would_change_the_model_is_refused(
    original: Path, fields: dict[str, object], message: str
) -> None:
    values = json.loads((original / "config.json").read_text())
    (original / "config.json").write_text(json.dumps({**values, **fields}))
    with pytest.raises(CheckpointError, match=message):
        read_prompted(original, Deployment(frames=2))


def test_still_pictures_are_refused(original: Path) -> None:
    with pytest.raises(ExportError, match="takes frames of any size; give --frames"):
        read_prompted(original, Deployment())
