"""Tokenizers with the sizes and the special ids of Llama's, Qwen's and PaliGemma's; the words in them are made up."""

from __future__ import annotations

import json
import string
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.export.families import real_tokenizers

SPACE, SPACE_ID = "\N{LOWER ONE EIGHTH BLOCK}", 29871
LLAMA_ROWS, QWEN_ROWS = 32064, 151936
QWEN = {
    "<|endoftext|>": 151643,
    "<|im_start|>": 151644,
    "<|im_end|>": 151645,
    "<|vision_start|>": 151652,
    "<|vision_end|>": 151653,
    "<|vision_pad|>": 151654,
    "<|image_pad|>": 151655,
    "<|video_pad|>": 151656,
}
ONEVISION = {**dict(list(QWEN.items())[:3]), "<image>": 151646, "<video>": 151647}
_CHARACTERS = [*string.ascii_letters, *string.digits, *string.punctuation, "\n"]


def write_llama(folder: Path, added: Mapping[str, int]) -> None:
    """Write Llama 2's tokenizer: 32000 pieces, bytes among them, the lone space where it has it; then added tokens."""
    (folder / "tokenizer.json").write_text(_llama(tuple(added.items())), encoding="utf-8")


def write_qwen(folder: Path, added: Mapping[str, int] = QWEN) -> None:
    """Write Qwen2's tokenizer: 151643 pieces over the characters that stand for bytes; then its special tokens."""
    (folder / "tokenizer.json").write_text(_qwen(tuple(added.items())), encoding="utf-8")


def write_paligemma(folder: Path) -> None:
    """Write PaliGemma's tokenizer."""
    (folder / "tokenizer.json").write_text(_paligemma(), encoding="utf-8")


@cache
def _paligemma() -> str:
    with TemporaryDirectory() as place:
        return real_tokenizers.write_paligemma(Path(place)).read_text(encoding="utf-8")


@cache
def _llama(added: tuple[tuple[str, int], ...]) -> str:
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += [f"<unused{number}>" for number in range(SPACE_ID - len(pieces))]
    pieces += [SPACE, *_CHARACTERS]
    pieces += [f"<more{number}>" for number in range(32000 - len(pieces))]
    prepend = [
        {"type": "Prepend", "prepend": SPACE},
        {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
    ]
    single = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    return _text(
        pieces,
        {"<unk>": 0, "<s>": 1, "</s>": 2, **dict(added)},
        normalizer={"type": "Sequence", "normalizers": prepend},
        post_processor={
            "type": "TemplateProcessing",
            "single": single,
            "pair": [*single, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        decoder={"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
        unknown="<unk>",
    )


@cache
def _qwen(added: tuple[tuple[str, int], ...]) -> str:
    pieces = [*_CHARACTERS[:-1], "Ġ", "Ċ"]
    pieces += [f"@@{number}" for number in range(min(dict(added).values()) - len(pieces))]
    split = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return _text(pieces, dict(added), pre_tokenizer=split, decoder=split)


def _text(
    pieces: Sequence[str], added: Mapping[str, int], *, unknown: str | None = None, **parts: Any
) -> str:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": number, "content": text, **flags, "special": True} for text, number in added.items()],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        **parts,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": unknown,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": unknown is not None,
            "byte_fallback": unknown is not None,
            "vocab": {piece: number for number, piece in enumerate(pieces)},
            "merges": [],
        },
    }  # fmt: skip
    return json.dumps(content)
