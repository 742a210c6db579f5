"""A LLaVA-1.5 checkpoint under the names of transformers' own class with random weights, written shard by shard."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from benchmarks.random_weights import write_shards

_TOWER = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
}
_WORDS = ("<pad>", "<s>", "</s>", "USER:", "ASSISTANT:", "what", "is", "on", "the", "table", "<image>")


def write_random_llava(
    folder: Path,
    *,
    text: Mapping[str, Any],
    tower: Mapping[str, Any],
    shard_bytes: int,
    seed: int = 0,
) -> Path:
    """Write the checkpoint, bfloat16; never more than one shard is in memory.

    Args:
        folder: Folder of the checkpoint, made here.
        text: Fields of ``text_config`` that differ from Llama-2-7B's.
        tower: Fields of ``vision_config`` that differ from CLIP ViT-L/14's at 336 px.
        shard_bytes: Size from which on a shard is closed, bytes.
        seed: Seed of the weights.
    """
    folder.mkdir(parents=True)
    sizes = {**_TOWER, **tower}
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**sizes),
        text_config=transformers.LlamaConfig(**{"vocab_size": 32064, "rms_norm_eps": 1e-5, **text}),
        image_token_index=_WORDS.index("<image>"),
    )
    config.save_pretrained(folder)
    with torch.device("meta"):
        model: torch.nn.Module = transformers.LlavaForConditionalGeneration(config)
    shapes = ((name, tuple(weight.shape)) for name, weight in model.named_parameters())
    write_shards(folder, shapes, shard_bytes, np.random.Generator(np.random.SFC64(seed)))
    _write_processors(folder, int(sizes["image_size"]))
    return folder


def _write_processors(folder: Path, image_px: int) -> None:
    processor = {
        "do_resize": True,
        "size": {"shortest_edge": image_px},
        "do_center_crop": True,
        "crop_size": {"height": image_px, "width": image_px},
        "resample": 3,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    }
    generation = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    for name, content in (("preprocessor_config", processor), ("generation_config", generation)):
        (folder / f"{name}.json").write_text(json.dumps(content))
    vocabulary = {word: number for number, word in enumerate(_WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=_WORDS[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(["<pad>", "<s>", "</s>", "<image>"])
    tokenizer.save(str(folder / "tokenizer.json"))
