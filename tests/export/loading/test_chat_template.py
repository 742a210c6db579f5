"""Chat templates give the text that transformers makes of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import transformers
from tokenizers import Tokenizer, models

from saccade.export.loading.chat_template import render_question
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.proto.errors import CheckpointError
from tests.export.families.chat_checkpoints import CHATML, INSTRUCT

QWEN = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system\n"
    "You are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{% for content in message['content'] %}{% if content['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% elif 'text' in content %}{{ content['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def named(folder: Path) -> Path:
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"bos_token": {"content": "<s>"}, "eos_token": "</s>"})
    )
    return folder


@pytest.mark.parametrize("template", [INSTRUCT, CHATML, QWEN])
@pytest.mark.parametrize("pictures", [1, 3])
def test_a_question_is_what_transformers_writes(tmp_path: Path, template: str, pictures: int) -> None:
    (named(tmp_path) / "chat_template.jinja").write_text(template)
    named_tokens = {"unk_token": "a", "bos_token": "<s>", "eos_token": "</s>"}
    words = Tokenizer(models.WordLevel({"a": 0}))
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, **named_tokens)
    turn = {"role": "user", "content": [{"type": "image"}] * pictures + [{"type": "text", "text": "why?"}]}
    expected = tokenizer.apply_chat_template(
        [turn], chat_template=template, tokenize=False, add_generation_prompt=True
    )
    assert render_question(CheckpointFolder(tmp_path), pictures, "image", "why?") == expected


def test_where_a_template_lies(tmp_path: Path) -> None:
    assert render_question(CheckpointFolder(tmp_path), 1, "image", "why?") is None
    several = [{"name": "tools", "template": "no"}, {"name": "default", "template": "tokenizer"}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": several}))
    assert render_question(CheckpointFolder(tmp_path), 1, "image", "why?") == "tokenizer"
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": "json"}))
    assert render_question(CheckpointFolder(tmp_path), 1, "image", "why?") == "json"
    (tmp_path / "chat_template.jinja").write_text("jinja")
    assert render_question(CheckpointFolder(tmp_path), 1, "image", "why?") == "jinja"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% for %}", "found: Expected"),
        ("{{ raise_exception('no pictures here') }}", "found: no pictures here; give --prompt"),
        ("{{ messages.missing.field }}", "has no attribute 'missing'"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{{ 1 / 0 }}", "division by zero"),
    ],
)
def test_a_template_that_cannot_be_used_is_named(tmp_path: Path, template: str, message: str) -> None:
    (tmp_path / "chat_template.jinja").write_text(template)
    with pytest.raises(CheckpointError, match=rf"chat_template\.jinja: expected a chat template .*{message}"):
        render_question(CheckpointFolder(tmp_path), 1, "image", "why?")


def test_a_template_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": 3}))
    with pytest.raises(
        CheckpointError, match=r"chat_template\.json: chat_template: expected text, found int"
    ):
        render_question(CheckpointFolder(tmp_path), 1, "image", "why?")
