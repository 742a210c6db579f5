"""The prompt of a published checkpoint, token by token, as its own processor writes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

from saccade.export.families.deployment import Deployment
from saccade.export.families.prompts import Prompted, read_prompted
from saccade.proto.errors import CheckpointError, ExportError, ImageError
from saccade.proto.manifest import SegmentSpec
from saccade.proto.picture_fit import FitMethod
from saccade.proto.video_spec import FrameSampling, VideoSpec
from saccade.runtime.tokens import InstructionTokens
from tests.export.families import chat_checkpoints
from tests.export.families.llava import test_next as test_llava_next
from tests.export.families.published import pictures

QUESTION = "What is on the table?"


@pytest.fixture(scope="module")
def next_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chat_checkpoints.write_next(tmp_path_factory.mktemp("published") / "next")


@pytest.fixture(scope="module")
def onevision_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chat_checkpoints.write_onevision(tmp_path_factory.mktemp("published") / "onevision")


def ids_of(prompted: Prompted, folder: Path, placeholder: int) -> list[int]:
    """The whole prompt: what the graph fixes, then the question as the runtime tokenises it."""
    spec = prompted.instruction
    segments = (SegmentSpec("text", spec.max_tokens),)
    tokens = InstructionTokens((folder / spec.tokenizer).read_bytes(), spec, segments).encode(QUESTION)
    fixed = [item if item >= 0 else placeholder for item in prompted.model.prompt_layout.items]
    return [*fixed, *tokens.token_ids[0, : tokens.count].tolist()]


@pytest.mark.parametrize("views", [1, 3])
def test_the_prompt_of_llava_next(next_folder: Path, views: int) -> None:
    """Its tokenizer marks the beginning of a prompt, so text behind a picture is split otherwise than text alone."""
    prompted = read_prompted(next_folder, Deployment(views=views, image_size=(33, 47)))
    assert prompted.instruction.after == "<image>" and prompted.views == tuple(
        f"image{n}" for n in range(views)
    )
    processor = transformers.LlavaNextProcessor(
        image_processor=LlavaNextImageProcessorPil(**test_llava_next.PROCESSOR),
        tokenizer=transformers.PreTrainedTokenizerFast.from_pretrained(next_folder),
        patch_size=5,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=(next_folder / "chat_template.jinja").read_text(),
    )
    content: list[dict[str, Any]] = [{"type": "image", "image": image} for image in pictures(views, 33, 47)]
    expected = processor.apply_chat_template(
        [{"role": "user", "content": [*content, {"type": "text", "text": QUESTION}]}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
    )["input_ids"][0]
    assert ids_of(prompted, next_folder, test_llava_next.IMAGE_ID) == list(expected)


@pytest.mark.parametrize(
    "prompt", [None, "<|im_start|>user <image><image>\n{instruction}<|im_end|><|im_start|>assistant\n"]
)
def test_the_prompt_of_llava_onevision(onevision_folder: Path, prompt: str | None) -> None:
    prompted = read_prompted(onevision_folder, Deployment(frames=2, views=2), prompt)
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(onevision_folder)
    assert prompted.instruction.after == "" and prompted.video == VideoSpec(2, FrameSampling.FROM_START)
    assert prompted.views == ("frame0", "frame1", "frame2", "frame3") and prompted.images_shape == (4, 27, 27)
    text = f"<|im_start|>user {'<video>' * 2 * 19}\n{QUESTION}<|im_end|><|im_start|>assistant\n"
    assert ids_of(prompted, onevision_folder, 91) == tokenizer(text).input_ids


def test_without_a_chat_template_the_family_knows_its_prompt_or_says_that_it_does_not(
    next_folder: Path, onevision_folder: Path, tmp_path: Path
) -> None:
    import shutil

    with_template = read_prompted(onevision_folder, Deployment())
    copy = shutil.copytree(onevision_folder, tmp_path / "onevision")
    (copy / "chat_template.json").unlink()
    assert read_prompted(copy, Deployment()).instruction == with_template.instruction
    copy = shutil.copytree(next_folder, tmp_path / "next")
    (copy / "chat_template.jinja").unlink()
    with pytest.raises(CheckpointError, match=r"expected a chat template .* depends on its language model"):
        read_prompted(copy, Deployment())
    given = read_prompted(copy, Deployment(), "[INST] <image>\n{instruction} [/INST]")
    assert given.instruction.template == "\n{instruction} [/INST]"


def test_llava_video_takes_frames_from_both_ends(onevision_folder: Path, tmp_path: Path) -> None:
    import shutil

    copy = shutil.copytree(onevision_folder, tmp_path / "video")
    values = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**values, "mm_newline_position": "grid"}))
    prompted = read_prompted(copy, Deployment(frames=4))
    assert prompted.video == VideoSpec(4, FrameSampling.BOTH_ENDS)
    assert prompted.model.grid.newline and prompted.model.grid.tokens == 4 * 3 * 4
    with torch.no_grad():
        seen = torch.from_numpy(pictures(4, 27, 27))[None]
        tokens = prompted.model.arrange(
            prompted.model.vision.encode_pixels(seen[0].float()).flatten(0, 1)[None]
        )
        breaks = tokens.unflatten(1, (12, 4))[:, :, 3]
    torch.testing.assert_close(breaks, prompted.model.image_newline.expand_as(breaks))


@pytest.mark.parametrize(
    ("which", "deployment", "error", "message"),
    [
        ("next", {"frames": 2}, ExportError, "LLaVA-NeXT|llava_next"),
        ("next", {"views": 0}, CheckpointError, "at least one picture, .* found views = 0"),
        ("next", {"frames": -1}, CheckpointError, "frames = -1"),
        ("next", {"image_size": (1, 4000)}, ImageError, "something remains .* found 4000x1"),
        (
            "onevision",
            {"views": 2, "image_size": (40, 61)},
            ExportError,
            "found 61x40: LLaVA-OneVision takes several pictures of any size",
        ),
        ("onevision", {"frames": 2, "image_size": (40, 61)}, ExportError, "takes frames of any size"),
    ],
)
def test_deployments_that_cannot_be(
    next_folder: Path,
    onevision_folder: Path,
    which: str,
    deployment: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    folder = {"next": next_folder, "onevision": onevision_folder}[which]
    with pytest.raises(error, match=message):
        read_prompted(folder, Deployment(**deployment))


def test_the_fits_of_llava_onevision(onevision_folder: Path) -> None:
    one, several, frames = (
        read_prompted(onevision_folder, Deployment(**deployment)).picture_fit
        for deployment in ({"image_size": (40, 61)}, {"views": 2}, {"frames": 2})
    )
    assert one.method is FitMethod.TILE and one.arrays((40, 61)) == (7, 27, 27)
    assert several.method is FitMethod.PAD and several.background == (127, 127, 127)
    assert frames.method is FitMethod.STRETCH
