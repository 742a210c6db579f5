"""transformers' classes with their own processors, from tiny checkpoints that they wrote, against our models."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers
from safetensors.torch import load_file, save_file
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from saccade.export.verification.pipeline import VerifyRequest, verify
from saccade.proto.errors import ExportError
from tests.export.answer.test_pipeline import write_tokenizer
from tests.export.families.chat_checkpoints import write_next, write_onevision
from tests.export.families.llava import test_llava
from tests.export.families.published import save
from tests.export.families.qwen_published import publish
from tests.export.families.qwen_vl import test_qwen2_5, test_qwen3

CHAT = (
    "{% for message in messages %}USER: {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<image>\\n' }}{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    " ASSISTANT:{% endfor %}"
)
CAMERA = (48, 64)
WHOLE = ["prompt tokens", "projected tokens", "decoder input", "decoder states", "logits", "next tokens"]
WITH_PATCHES = [*WHOLE[:1], "pictures", "vision features", *WHOLE[1:]]


def llava(folder: Path) -> Path:
    """Write LLaVA-1.5 with every file that it was published with."""
    save(test_llava.reference(), folder, test_llava.PROCESSOR)
    words = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    transformers.LlavaProcessor(
        image_processor=CLIPImageProcessorPil(**test_llava.PROCESSOR),
        tokenizer=transformers.PreTrainedTokenizerFast(tokenizer_object=write_tokenizer(folder), **words),
        patch_size=5,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT,
    ).save_pretrained(folder)
    return folder


def onevision(folder: Path) -> Path:
    """Write LLaVA-OneVision with the processor's file that it was published with."""
    write_onevision(folder)
    processor = {
        "processor_class": "LlavaOnevisionProcessor",
        "image_token": "<image>",
        "num_image_tokens": 25,
        "vision_feature_select_strategy": "full",
    }
    (folder / "processor_config.json").write_text(json.dumps(processor))
    return folder


def with_published_names(folder: Path) -> Path:
    """Rename the tower's weights as the Hub has them, whatever the version of transformers that wrote them."""
    path = folder / "model.safetensors"
    named = {
        re.sub(r"vision_tower\.(?!vision_model)", "vision_tower.vision_model.", name): weight
        for name, weight in load_file(path).items()
    }
    save_file(named, path, metadata={"format": "pt"})
    return folder


Write = Callable[[Path], Path]


def run(checkpoint: Path, **changes: Any) -> Any:
    request = VerifyRequest(checkpoint=checkpoint, image_size=CAMERA, **changes)
    return verify(request, lambda what: None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("write", "stages"),
    [
        (llava, WITH_PATCHES),
        (write_next, WITH_PATCHES),
        (onevision, WITH_PATCHES),
        (lambda folder: publish(test_qwen2_5.reference(layers=2), folder, test_qwen2_5.PROCESSOR), WHOLE),
        (
            lambda folder: publish(test_qwen3.reference(layers=2, deep=(0, 2)), folder, test_qwen3.PROCESSOR),
            WHOLE,
        ),
    ],
    ids=["llava", "next", "onevision", "qwen2_5", "qwen3"],
)
def test_every_stage_agrees(tmp_path: Path, reference_python: Path, write: Write, stages: list[str]) -> None:
    found = run(with_published_names(write(tmp_path / "model")), reference_python=reference_python)
    assert [stage.stage for stage in found.stages] == stages and found.not_compared == ()
    assert found.agrees, [(stage.stage, stage.relative, stage.note) for stage in found.stages]
    assert max(stage.relative for stage in found.stages) < 1e-4


def test_a_class_that_drew_its_weights_is_no_reference(tmp_path: Path, reference_python: Path) -> None:
    """Names of a later version of transformers: the older one takes none of them, and goes on with random weights."""
    checkpoint = llava(tmp_path / "model")
    with pytest.raises(ExportError, match=r"found no weights for \d+ names, first model\.vision_tower"):
        run(checkpoint, reference_python=reference_python)
