"""Tiny LLaVA checkpoints as published: weights, tokenizer, image processor and chat template, written by transformers.

:func:`next_answer` and :func:`onevision_answer` ask the real classes, loaded from the same files.
"""

from __future__ import annotations

import json
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
    LlavaOnevisionImageProcessorPil,
)

from tests.export.families.llava import test_next as test_llava_next
from tests.export.families.llava import test_onevision as test_llava_onevision
from tests.export.families.published import normalised, save

Pictures = Sequence[NDArray[np.uint8]]
SPECIAL = {
    "<pad>": 0,
    "<s>": 1,
    "</s>": 2,
    "<image>": 90,
    "<video>": 91,
    "<|im_start|>": 92,
    "<|im_end|>": 93,
}
END, PAD = 2, 0
INSTRUCT = (
    "{{ bos_token }}{% for message in messages %}[INST] {% for content in message['content'] %}"
    "{% if content['type'] == 'image' %}{{ '<image>\\n' }}{% else %}{{ content['text'] }}{% endif %}"
    "{% endfor %} [/INST]{% endfor %}"
)
"""As LLaVA-NeXT with Mistral: it writes the token that begins a sequence itself."""
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + ' ' }}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'video') %}{{ '<video>' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{% generation %}{{ '\\n' + content['text'] }}{% endgeneration %}{% endfor %}{{ '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""As LLaVA-OneVision, with the tags of transformers."""


def write_next(folder: Path) -> Path:
    """Write LLaVA-NeXT; like Llama's, its tokenizer marks the beginning of a prompt, and only that."""
    save(test_llava_next.reference(test_llava_next.MISTRAL), folder, test_llava_next.PROCESSOR)
    tokenizer = _tokenizer("▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    processor = transformers.LlavaNextProcessor(
        image_processor=LlavaNextImageProcessorPil(**test_llava_next.PROCESSOR),
        tokenizer=_fast(tokenizer),
        patch_size=5,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=INSTRUCT,
    )
    (folder / "preprocessor_config.json").unlink()
    processor.save_pretrained(folder)
    return _finish(folder, license_line="license: apache-2.0")


def write_onevision(folder: Path, *, most: int = 9, newline: str = "one_token") -> Path:
    """Write LLaVA-OneVision, or with ``newline="grid"`` what LLaVA-Video is converted to."""
    save(test_llava_onevision.reference(most=most), folder, test_llava_onevision.PROCESSOR)
    tokenizer = _tokenizer("Ġ")
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    _fast(tokenizer).save_pretrained(folder)
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": CHATML}))
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, "mm_newline_position": newline}))
    return _finish(folder, license_line="license: other\nlicense_name: tongyi-qianwen")


def next_answer(folder: Path, pictures: Pictures, question: str, new_tokens: int) -> list[int]:
    """Ask the real model through its real processor."""
    model = transformers.LlavaNextForConditionalGeneration.from_pretrained(folder).eval()
    processor = transformers.LlavaNextProcessor(
        image_processor=LlavaNextImageProcessorPil(**test_llava_next.PROCESSOR),
        tokenizer=transformers.PreTrainedTokenizerFast.from_pretrained(folder),
        patch_size=5,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=(folder / "chat_template.jinja").read_text(),
    )
    content: list[dict[str, Any]] = [
        {"type": "image", "image": Image.fromarray(picture)} for picture in pictures
    ]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": [*content, {"type": "text", "text": question}]}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    return _generate(model, dict(inputs), new_tokens)


def onevision_answer(
    folder: Path, pictures: Pictures, question: str, new_tokens: int, *, is_video: bool = False
) -> list[int]:
    """Ask the real model; its processor wants torchvision, so the parts are used, and the model counts its own tokens.

    Args:
        folder: Of the checkpoint.
        pictures: Of any size; the frames of one video have the size of a tile.
        question: Text.
        new_tokens: To generate.
        is_video: Pictures are frames.
    """
    model = transformers.LlavaOnevisionForConditionalGeneration.from_pretrained(folder).eval()
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    if is_video:
        inputs: dict[str, Any] = {
            "pixel_values_videos": normalised(np.stack(pictures), test_llava_onevision.PROCESSOR)[None]
        }
        with torch.no_grad():
            counts = [model.get_video_features(**inputs).pooler_output.shape[1]]
    else:
        processor = LlavaOnevisionImageProcessorPil(**test_llava_onevision.PROCESSOR)
        inputs = dict(processor.preprocess([list(pictures)], return_tensors="pt"))
        inputs["pixel_values"] = inputs["pixel_values"].float()
        with torch.no_grad():
            counts = [len(found) for found in model.get_image_features(**inputs).pooler_output]
    kind = "video" if is_video else "image"
    turn = {"role": "user", "content": [{"type": kind}] * len(counts) + [{"type": "text", "text": question}]}
    text = tokenizer.apply_chat_template(
        [turn], chat_template=CHATML, tokenize=False, add_generation_prompt=True
    )
    head, *rest = text.split(f"<{kind}>")
    text = head + "".join(f"<{kind}>" * count + part for count, part in zip(counts, rest, strict=True))
    return _generate(
        model, {**inputs, "input_ids": tokenizer(text, return_tensors="pt").input_ids}, new_tokens
    )


def _generate(model: Any, inputs: dict[str, Any], new_tokens: int) -> list[int]:
    ids = inputs["input_ids"]
    inputs["attention_mask"] = torch.ones_like(ids)
    with torch.no_grad():
        found = model.generate(
            **inputs, max_new_tokens=new_tokens, do_sample=False, eos_token_id=END, pad_token_id=PAD
        )
    generated: list[int] = found[0, ids.shape[1] :].tolist()
    return generated


def _tokenizer(space: str) -> Tokenizer:
    """A token for each character, so that every space and line break counts."""
    breaks = ("Ċ", "\n")
    characters = [*string.ascii_letters, *string.digits, space, *breaks, *":?.,[]/'"]
    vocabulary = {**SPECIAL, **{character: 3 + number for number, character in enumerate(characters)}}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer


def _fast(tokenizer: Tokenizer) -> Any:
    named = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named)


def _finish(folder: Path, license_line: str) -> Path:
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": END, "pad_token_id": PAD}))
    (folder / "README.md").write_text(f"---\nlanguage: en\n{license_line}\n---\n\n# A tiny model\n")
    return folder
