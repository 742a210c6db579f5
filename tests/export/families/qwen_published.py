"""Tiny checkpoints of Qwen-VL with every file that the Hub has: weights, tokenizer, processor, chat template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from tests.export.families.qwen_reference import END, IMAGE, START, VIDEO

IM_START, IM_END, PAD = 88, 89, 87
SPECIAL = {
    "<|endoftext|>": PAD,
    "<|im_start|>": IM_START,
    "<|im_end|>": IM_END,
    "<|image_pad|>": IMAGE,
    "<|video_pad|>": VIDEO,
    "<|vision_start|>": START,
    "<|vision_end|>": END,
}
WORDS = (
    "<unk>",
    "\n",
    " ",
    "system",
    "user",
    "assistant",
    "You",
    "are",
    "a",
    "helpful",
    "assistant.",
    "seconds",
)
MARKS = ("<", ">", ".", "?", *map(str, range(10)))
QUESTIONS = ("w1 w2 w3?", "w40", "w5 w6 w7 w8 w9")
QWEN2_5_CHAT = (
    "{% set image_count = namespace(value=0) %}{% set video_count = namespace(value=0) %}"
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system\n"
    "You are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n"
    "{% else %}{% for content in message['content'] %}"
    "{% if content['type'] == 'image' or 'image' in content or 'image_url' in content %}"
    "{% set image_count.value = image_count.value + 1 %}"
    "{% if add_vision_id %}Picture {{ image_count.value }}: {% endif %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif content['type'] == 'video' or 'video' in content %}{% set video_count.value = video_count.value + 1 %}"
    "{% if add_vision_id %}Video {{ video_count.value }}: {% endif %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""As Qwen2.5-VL was published with it."""
QWEN3_CHAT = (
    "{%- set image_count = namespace(value=0) %}\n{%- set video_count = namespace(value=0) %}\n"
    '{%- for message in messages %}\n    {%- if message.role == "user" %}\n'
    "        {{- '<|im_start|>' + message.role + '\\n' }}\n"
    "        {%- if message.content is string %}\n            {{- message.content }}\n        {%- else %}\n"
    "            {%- for content in message.content %}\n"
    "                {%- if content.type == 'image' or 'image' in content or 'image_url' in content %}\n"
    "                    {%- set image_count.value = image_count.value + 1 %}\n"
    "                    {%- if add_vision_id %}Picture {{ image_count.value }}: {% endif -%}\n"
    "                    <|vision_start|><|image_pad|><|vision_end|>\n"
    "                {%- elif content.type == 'video' or 'video' in content %}\n"
    "                    {%- set video_count.value = video_count.value + 1 %}\n"
    "                    {%- if add_vision_id %}Video {{ video_count.value }}: {% endif -%}\n"
    "                    <|vision_start|><|video_pad|><|vision_end|>\n"
    "                {%- elif 'text' in content %}\n                    {{- content.text }}\n"
    "                {%- endif %}\n            {%- endfor %}\n        {%- endif %}\n"
    "        {{- '<|im_end|>\\n' }}\n    {%- endif %}\n{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n{%- endif %}\n"
)
"""A person's turn in the form of Qwen3-VL's; tools are left out."""


def tokenizer(family: str) -> PreTrainedTokenizerFast:
    """Words and single marks, spaces and line ends too: where texts meet is seen."""
    known = [*WORDS, *MARKS]
    known += [f"w{number}" for number in range(PAD - len(known))]
    vocabulary = {word: number for number, word in enumerate(known)} | SPECIAL
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))  # noqa: S106 -- no password
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r"[A-Za-z]\w*\.?|.|\n"), "isolated")
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        unk_token="<unk>",  # noqa: S106 -- no password
        pad_token="<|endoftext|>",  # noqa: S106 -- no password
        eos_token="<|im_end|>",  # noqa: S106 -- no password
        additional_special_tokens=sorted(set(SPECIAL) - {"<|endoftext|>", "<|im_end|>"}),
        chat_template=QWEN2_5_CHAT if family == "qwen2_5_vl" else QWEN3_CHAT,
    )


def publish(theirs: Any, folder: Path, processor: dict[str, Any]) -> Path:
    """Write a checkpoint as transformers' own classes do."""
    theirs.generation_config.eos_token_id, theirs.generation_config.pad_token_id = [IM_END, PAD], PAD
    theirs.save_pretrained(folder)
    tokenizer(theirs.config.model_type).save_pretrained(folder)
    Qwen2VLImageProcessorPil(**processor).save_pretrained(folder)
    return folder


def prompt_ids(family: str, question: str, shown: list[str]) -> Tensor:
    """The ids of a question, as transformers' processors make them.

    Args:
        family: ``model_type``.
        question: Text.
        shown: What each picture becomes, or each video, with its marks.
    """
    made = tokenizer(family)
    kind = "video" if "<|video_pad|>" in shown[0] else "image"
    content = [{"type": kind}] * len(shown) + [{"type": "text", "text": question}]
    text = made.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    first, *rest = str(text).split(marked(f"<|{kind}_pad|>"))
    written = first + "".join(tokens + piece for tokens, piece in zip(shown, rest, strict=True))
    return torch.tensor([made(written)["input_ids"]])


def marked(tokens: str) -> str:
    """Text between vision marks."""
    return f"<|vision_start|>{tokens}<|vision_end|>"
