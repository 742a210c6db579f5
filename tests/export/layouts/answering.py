"""LLaVA and Qwen-VL and what shares their ``model_type``, as their files lie on disk."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from saccade.export.families.llava import onevision, video
from tests.export.families.chat_checkpoints import CHATML, INSTRUCT
from tests.export.families.llava import test_llava, test_next, test_onevision
from tests.export.families.llava.test_video import original_name
from tests.export.families.published import CLIP_PROCESSOR, randomise
from tests.export.families.qwen_published import QWEN2_5_CHAT, QWEN3_CHAT
from tests.export.families.qwen_vl import test_qwen2_5, test_qwen3
from tests.export.layouts.folders import (
    Layout,
    as_it_is,
    beside,
    edit,
    remove,
    rewrite_weights,
    write_json,
)
from tests.export.layouts.vocabularies import LLAMA_ROWS, ONEVISION, QWEN, QWEN_ROWS, write_llama, write_qwen

STILL: Mapping[str, Any] = {}
SIZED = {"image_size": (48, 64)}
FILMED = {"frames": 4}
LLAMA = {"<image>": 32000, "<pad>": 32001}
_TEXT = {
    "hidden_size": 24,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
}
_CLIP = {"hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": 4}
_QWEN_IDS = {
    "image_token_id": QWEN["<|image_pad|>"],
    "video_token_id": QWEN["<|video_pad|>"],
    "vision_start_token_id": QWEN["<|vision_start|>"],
    "vision_end_token_id": QWEN["<|vision_end|>"],
}
_QWEN_TEXT = {**_TEXT, "hidden_size": 48, "head_dim": None, "vocab_size": QWEN_ROWS}
_QWEN_VISION = {"depth": 3, "hidden_size": 32, "intermediate_size": 40, "num_heads": 2, "patch_size": 4}


def know_tiny_tower(patch: pytest.MonkeyPatch) -> None:
    """Let the tower that LLaVA-Video names be a tiny one."""
    sizes = {**_CLIP, "image_size": test_onevision.TILE, "patch_size": 5}
    patch.setattr(video, "TOWER", {**onevision.TOWER, **sizes})


def _save(model: Any, folder: Path, processor: Mapping[str, Any], generation: Mapping[str, Any]) -> None:
    randomise(model)
    model.tie_weights()
    model.eval().save_pretrained(folder)
    rewrite_weights(folder, shards=3)
    write_json(folder, "preprocessor_config.json", processor)
    write_json(folder, "generation_config.json", generation)
    beside(folder)


def _llava(folder: Path) -> None:
    text = transformers.LlamaConfig(**_TEXT, vocab_size=LLAMA_ROWS, rms_norm_eps=1e-5)
    tower = transformers.CLIPVisionConfig(**_CLIP, image_size=20, patch_size=5)
    config = transformers.LlavaConfig(
        vision_config=tower, text_config=text, image_token_index=32000, image_seq_length=16
    )
    generation = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 32001}
    _save(transformers.LlavaForConditionalGeneration(config), folder, test_llava.PROCESSOR, generation)
    write_llama(folder, LLAMA)
    write_json(folder, "added_tokens.json", LLAMA)


def _next(folder: Path) -> None:
    text = transformers.MistralConfig(**_TEXT, vocab_size=LLAMA_ROWS, sliding_window=None, rope_theta=1e6)
    tower = transformers.CLIPVisionConfig(**_CLIP, image_size=test_next.TILE, patch_size=5)
    config = transformers.LlavaNextConfig(
        vision_config=tower,
        text_config=text,
        image_grid_pinpoints=test_next.PINPOINTS,
        image_token_index=32000,
    )
    generation = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 32001}
    _save(transformers.LlavaNextForConditionalGeneration(config), folder, test_next.PROCESSOR, generation)
    write_llama(folder, LLAMA)
    write_json(folder, "tokenizer_config.json", {"bos_token": "<s>", "chat_template": INSTRUCT})


def _onevision(folder: Path) -> None:
    text = transformers.Qwen2Config(**_TEXT, vocab_size=152000, rope_theta=1e6)
    sizes = {"image_size": test_onevision.TILE, "patch_size": 5, "vision_use_head": False}
    config = transformers.LlavaOnevisionConfig(
        vision_config=transformers.SiglipVisionConfig(**_CLIP, **sizes),
        text_config=text,
        image_token_index=ONEVISION["<image>"],
        video_token_index=ONEVISION["<video>"],
        image_grid_pinpoints=test_onevision.PINPOINTS,
        vision_aspect_ratio="anyres_max_9",
    )
    model = transformers.LlavaOnevisionForConditionalGeneration(config)
    generation = {"eos_token_id": [151645, 151643], "pad_token_id": 151643, "bos_token_id": 151643}
    _save(model, folder, test_onevision.PROCESSOR, generation)
    write_qwen(folder, ONEVISION)
    write_json(folder, "chat_template.json", {"chat_template": CHATML})


def _qwen2_5(folder: Path) -> None:
    """Write Qwen2.5-VL in the flat form of its publication."""
    rope = {"rope_type": "default", "mrope_section": [1, 2, 3], "rope_theta": 1e6}
    vision = {**_QWEN_VISION, "window_size": 16, "out_hidden_size": 48, "fullatt_block_indexes": [1, 2]}
    config = transformers.Qwen2_5_VLConfig(
        vision_config={**vision, "tokens_per_second": 2},
        text_config={**_QWEN_TEXT, "rope_parameters": rope, "bos_token_id": None, "eos_token_id": None},
        **_QWEN_IDS,
    )
    generation = {
        "bos_token_id": 151643,
        "pad_token_id": 151643,
        "do_sample": True,
        "eos_token_id": [151645, 151643],
        "repetition_penalty": 1.05,
        "temperature": 0.000001,
        "transformers_version": "4.49.0",
    }
    model = transformers.Qwen2_5_VLForConditionalGeneration(config)
    _save(model, folder, test_qwen2_5.PROCESSOR, generation)
    write_qwen(folder)
    write_json(folder, "chat_template.json", {"chat_template": QWEN2_5_CHAT})


def _flat(folder: Path) -> None:
    """Bring a re-saved Qwen2.5-VL to the form of its publication: one flat object, ``visual.`` and ``model.``."""
    stored = json.loads((folder / "config.json").read_text())
    text = stored.pop("text_config")
    rope = text.pop("rope_parameters")
    flat = {
        **{key: value for key, value in text.items() if key not in ("model_type", "dtype")},
        **stored,
        "rope_theta": rope["rope_theta"],
        "rope_scaling": {"type": "mrope", "mrope_section": rope["mrope_section"]},
        "torch_dtype": "bfloat16",
        "transformers_version": "4.41.2",
    }
    write_json(folder, "config.json", flat)

    def published(name: str) -> str:
        return re.sub(
            r"^model\.(language_model\.|(?=visual\.))", lambda found: "model." if found[1] else "", name
        )

    rewrite_weights(folder, published, shards=2)


def _qwen3(folder: Path) -> None:
    rope = {"rope_type": "default", "mrope_section": [4, 2, 2], "mrope_interleaved": True, "rope_theta": 5e6}
    vision = {
        **_QWEN_VISION,
        "out_hidden_size": 48,
        "num_position_embeddings": 49,
        "deepstack_visual_indexes": [0, 1],
    }
    config = transformers.Qwen3VLConfig(
        vision_config=vision,
        text_config={**_QWEN_TEXT, "head_dim": 16, "rope_parameters": rope},
        tie_word_embeddings=True,
        **_QWEN_IDS,
    )
    generation = {
        "bos_token_id": 151643,
        "pad_token_id": 151643,
        "do_sample": True,
        "eos_token_id": [151645, 151643],
        "top_p": 0.8,
        "top_k": 20,
        "temperature": 0.7,
        "repetition_penalty": 1.0,
        "transformers_version": "4.56.0",
    }
    _save(transformers.Qwen3VLForConditionalGeneration(config), folder, test_qwen3.PROCESSOR, generation)
    write_qwen(folder)
    write_json(folder, "chat_template.json", {"chat_template": QWEN3_CHAT})


BASES: Mapping[str, Callable[[Path], object]] = {
    "llava": _llava,
    "llava_next": _next,
    "llava_onevision": _onevision,
    "qwen2_5_vl": _qwen2_5,
    "qwen3_vl": _qwen3,
}


def _llava_of_authors(folder: Path) -> None:
    write_json(
        folder,
        "config.json",
        {
            "model_type": "llava_llama",
            "architectures": ["LlavaLlamaForCausalLM"],
            "mm_vision_tower": "openai/clip-vit-large-patch14-336",
            "mm_projector_type": "mlp2x_gelu",
            **_TEXT,
        },
    )
    remove(folder, "model*", "preprocessor_config.json")
    (folder / "pytorch_model-00001-of-00002.bin").write_bytes(b"not read")


def _interleave(folder: Path) -> None:
    """llava-interleave-qwen: LLaVA's model_type, SigLIP and Qwen in it, pictures stretched."""
    sizes = {"image_size": 20, "patch_size": 5, "vision_use_head": False}
    config = transformers.LlavaConfig(
        vision_config=transformers.SiglipVisionConfig(**_CLIP, **sizes),
        text_config=transformers.Qwen2Config(**_TEXT, vocab_size=152000),
        image_token_index=ONEVISION["<image>"],
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
    )
    side = {"height": 20, "width": 20}
    processor = {**CLIP_PROCESSOR, "do_resize": True, "resample": 3, "rescale_factor": 1 / 255, "size": side}
    remove(folder, "*")
    model = transformers.LlavaForConditionalGeneration(config)
    _save(model, folder, processor, {"eos_token_id": 151645, "pad_token_id": 151643})
    write_qwen(folder, ONEVISION)


def _video_of_authors(folder: Path) -> None:
    values = json.loads((folder / "config.json").read_text())
    rewrite_weights(folder, original_name, shards=4)
    flat = {
        **values["text_config"],
        "model_type": "llava_qwen",
        "architectures": ["LlavaQwenForCausalLM"],
        "mm_vision_tower": "google/siglip-so400m-patch14-384",
        "mm_hidden_size": values["vision_config"]["hidden_size"],
        "mm_projector_type": "mlp2x_gelu",
        "mm_newline_position": "grid",
        "mm_spatial_pool_mode": "bilinear",
        "mm_spatial_pool_stride": 2,
        "add_faster_video": False,
    }
    write_json(folder, "config.json", flat)
    remove(folder, "preprocessor_config.json", "chat_template.json")


def _awq(folder: Path) -> None:
    edit(folder, quantization_config={"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm"})
    (folder / "README.md").write_text("---\nbase_model:\n- Qwen/Qwen2.5-VL-3B-Instruct\n---\n")


def _fp8(folder: Path) -> None:
    edit(folder, quantization_config={"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]})


def _gptq_names(folder: Path) -> None:
    """GPTQ whose configuration was left out: only the names of weights tell."""
    rewrite_weights(folder, lambda name: name.replace("mlp.up_proj.weight", "mlp.up_proj.qweight"), shards=2)


def _gguf(folder: Path) -> None:
    remove(folder, "*.safetensors*", "*.json")
    (folder / "qwen2.5-vl-3b-q4_k_m.gguf").write_bytes(b"GGUF")


def _acting_class(folder: Path) -> None:
    edit(folder, architectures=["Qwen2_5_VLForActionPrediction"])


def _acting_weights(folder: Path) -> None:
    rewrite_weights(folder, shards=2, **{"action_expert.layers.0.mlp.up_proj.weight": torch.zeros(4, 4)})


def _action_tokens(folder: Path) -> None:
    write_qwen(folder, {**QWEN, **{f"<robot_action_{number}>": 151665 + number for number in range(200)}})


def _hub_cache(folder: Path) -> None:
    inside = folder / "snapshots" / "66285546d2b821cf421d4f5eb2576359d3770cd3"
    entries = list(folder.iterdir())
    inside.mkdir(parents=True)
    for entry in entries:
        entry.rename(inside / entry.name)
    (folder / "refs").mkdir()
    (folder / "refs/main").write_text(inside.name)


def _adapter(folder: Path) -> None:
    base = "Qwen/Qwen2.5-VL-3B-Instruct"
    write_json(folder, "adapter_config.json", {"peft_type": "LORA", "base_model_name_or_path": base})
    (folder / "adapter_model.safetensors").write_bytes(b"not read")


def _adapter_alone(folder: Path) -> None:
    remove(folder, "*.safetensors*", "config.json")
    _adapter(folder)


def _partitioned(folder: Path) -> None:
    remove(folder, "*.safetensors*", "config.json")
    (folder / "global_step500").mkdir()
    (folder / "zero_to_fp32.py").write_text("# not read\n")


def _pickled(folder: Path) -> None:
    remove(folder, "*.safetensors*")
    (folder / "pytorch_model.bin").write_bytes(b"not read")
    (folder / "training_args.bin").write_bytes(b"not read")


def _beams(folder: Path) -> None:
    edit(folder, "generation_config.json", num_beams=4)


def _typed(name: str, architecture: str) -> Callable[[Path], object]:
    return lambda folder: edit(folder, model_type=name, architectures=[architecture])


LAYOUTS: Mapping[str, Layout] = {
    "LLaVA-1.5 of llava-hf": Layout("llava", as_it_is, STILL),
    "LLaVA-1.5 of its authors": Layout("llava", _llava_of_authors, STILL),
    "llava-interleave-qwen": Layout("llava", _interleave, STILL),
    "LLaVA-1.5, pickles alone": Layout("llava", _pickled, STILL),
    "VipLLaVA": Layout("llava", _typed("vipllava", "VipLlavaForConditionalGeneration"), STILL),
    "LLaVA-NeXT of llava-hf, on Mistral": Layout("llava_next", as_it_is, SIZED),
    "LLaVA-OneVision of llava-hf": Layout("llava_onevision", as_it_is, SIZED),
    "LLaVA-Video of its authors": Layout("llava_onevision", _video_of_authors, FILMED),
    "Qwen2.5-VL as published": Layout("qwen2_5_vl", _flat, SIZED),
    "Qwen2.5-VL saved again by transformers 5": Layout("qwen2_5_vl", as_it_is, SIZED),
    "Qwen2.5-VL-AWQ": Layout("qwen2_5_vl", _awq, SIZED),
    "Qwen2.5-VL in GPTQ, told by its weights alone": Layout("qwen2_5_vl", _gptq_names, SIZED),
    "Qwen2.5-VL as GGUF": Layout("qwen2_5_vl", _gguf, SIZED),
    "Qwen2.5-VL in the Hub's cache": Layout("qwen2_5_vl", _hub_cache, SIZED),
    "Qwen2.5-VL, LoRA adapter alone": Layout("qwen2_5_vl", _adapter_alone, SIZED),
    "Qwen2.5-VL, LoRA adapter beside its weights": Layout("qwen2_5_vl", _adapter, SIZED),
    "Qwen2.5-VL of DeepSpeed's training": Layout("qwen2_5_vl", _partitioned, SIZED),
    "A VLA of another class on Qwen2.5-VL": Layout("qwen2_5_vl", _acting_class, SIZED),
    "A VLA with an action expert on Qwen2.5-VL": Layout("qwen2_5_vl", _acting_weights, SIZED),
    "A VLA with action tokens on Qwen2.5-VL (NORA)": Layout("qwen2_5_vl", _action_tokens, SIZED),
    "Qwen2.5-VL, beam search in `generation_config.json`": Layout("qwen2_5_vl", _beams, SIZED),
    "Qwen2-VL": Layout("qwen2_5_vl", _typed("qwen2_vl", "Qwen2VLForConditionalGeneration"), SIZED),
    "Qwen3-VL": Layout("qwen3_vl", as_it_is, SIZED),
    "Qwen3-VL-FP8": Layout("qwen3_vl", _fp8, SIZED),
    "PaliGemma": Layout("llava", _typed("paligemma", "PaliGemmaForConditionalGeneration"), STILL),
}
"""Name of a layout to the checkpoint that it is a variant of, what is changed, and how it is asked."""
