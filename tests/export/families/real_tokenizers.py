"""Tokenizers with the structure and the ids of published ones; the words in them are made up."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

PALIGEMMA_ROWS = 257152
"""Rows of the embedding table of π0 and π0.5, whoever wrote the checkpoint; PaliGemma's ``<image>`` has this id."""


def write_paligemma(folder: Path) -> Path:
    """Write PaliGemma's: 256000 pieces, 1024 places, 128 segments, and ``<image>`` behind them as an added token."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    pieces = [*special, "▁", "\n", *string.ascii_letters, *string.digits, *string.punctuation]
    pieces += [f"<0x{byte:02X}>" for byte in range(256)]
    pieces += [f"<unused{number}>" for number in range(256000 - len(pieces))]
    pieces += [f"<loc{place:04d}>" for place in range(1024)] + [f"<seg{number:03d}>" for number in range(128)]
    assert len(pieces) == PALIGEMMA_ROWS
    added = [*enumerate(special), (PALIGEMMA_ROWS, "<image>")]
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added(index, text) for index, text in added],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "<bos>", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
            ],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<bos>": {"id": "<bos>", "ids": [2], "tokens": ["<bos>"]}},
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": {piece: index for index, piece in enumerate(pieces)},
            "merges": [],
        },
    }
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    return folder / "tokenizer.json"


def add_tokens(tokenizer: Path, texts: dict[str, int]) -> None:
    """Add tokens to a ``tokenizer.json``, as transformers' ``add_tokens`` does: they are not special.

    Args:
        tokenizer: File that is changed.
        texts: Text of each token to its id.
    """
    content = json.loads(tokenizer.read_text(encoding="utf-8"))
    content["added_tokens"] += [_added(index, text, is_special=False) for text, index in texts.items()]
    tokenizer.write_text(json.dumps(content), encoding="utf-8")


def _added(index: int, text: str, *, is_special: bool = True) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": index, "content": text, **flags, "special": is_special}
