"""OpenVLA, OpenVLA-OFT and what states the same ``model_type``, as their files lie on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch

from saccade.export.families.embodiment import write_embodiment
from tests.export.families.oft_reference import ReferenceOft, save_head
from tests.export.families.openvla_oft.test_published import embodiment
from tests.export.families.prismatic_reference import Reference, config_json, statistics, write
from tests.export.layouts.folders import (
    Layout,
    as_it_is,
    beside,
    edit,
    point_to_lfs,
    remove,
    rewrite_weights,
    write_json,
    write_weights,
)
from tests.export.layouts.vocabularies import write_llama
from tests.export.samples import write_tiny_checkpoint

CLASS = "OpenVLAForActionPrediction"
PROMPT = "In: What action should the robot take to {instruction}?\nOut: "
CODE = ("configuration_prismatic.py", "modeling_prismatic.py", "processing_prismatic.py")
ROBOTS = {"libero": (7, 8, 8), "aloha": (14, 14, 25)}
PEFT = {
    "peft_type": "LORA",
    "r": 32,
    "lora_alpha": 16,
    "target_modules": ["q_proj"],
    "base_model_name_or_path": "openvla/openvla-7b",
}


def _openvla(folder: Path, *, fused: bool = True) -> None:
    model = Reference(fused=fused)
    sets = {name: statistics(7, 7, seed) for seed, name in enumerate(("bridge_orig", "fractal20220817_data"))}
    folder.rmdir()
    write(model, folder, sets)
    rewrite_weights(folder, shards=3)
    config = config_json(model)
    code = {"AutoModelForVision2Seq": f"modeling_prismatic.{CLASS}", **config["auto_map"]}
    edit(
        folder,
        architectures=[CLASS],
        auto_map=code,
        output_projector_states=False,
        return_dict=False,
        torch_dtype="bfloat16",
        transformers_version="4.40.1",
        vision_backbone_id="dinosiglip-vit-so-224px" if fused else "siglip-vit-so400m",
    )
    edit(folder, "preprocessor_config.json", auto_map={}, processor_class="PrismaticProcessor")
    write_llama(folder, {"<PAD>": 32000})
    write_json(folder, "added_tokens.json", {"<PAD>": 32000})
    write_json(folder, "special_tokens_map.json", {"bos_token": "<s>", "pad_token": "<PAD>"})
    write_json(folder, "tokenizer_config.json", {"add_bos_token": True, "bos_token": "<s>", "legacy": False})
    write_json(folder, "generation_config.json", {"_from_model_config": True, "eos_token_id": 2})
    beside(folder, *CODE, "tokenizer.model")
    _robot(folder, (7, 0, 1), ("image",), "bridge_orig")


def _robot(folder: Path, dims: tuple[int, int, int], views: tuple[str, ...], key: str) -> None:
    given = replace(embodiment(*dims), views=views, statistics_key=key, template=PROMPT)
    write_embodiment(given, folder)


def _oft(folder: Path, robot: str) -> None:
    dims = ROBOTS[robot]
    _openvla(folder)
    model, name = ReferenceOft(*dims[:2]), f"{robot}_no_noops"
    write_weights(folder, model.published(), shards=4)
    remove(folder, "model-*-of-00003.safetensors")
    (folder / CODE[1]).write_text("from .constants import NUM_ACTIONS_CHUNK\n", encoding="utf-8")
    for head, part in (("action_head", model.head), ("proprio_projector", model.proprio)):
        half = {key: weight.to(torch.bfloat16) for key, weight in part.state_dict().items()}
        save_head(folder, head, half, step="150000")
    write_json(folder, "dataset_statistics.json", {name: statistics(*dims[:2])})
    write_json(folder, "lora_adapter/adapter_config.json", PEFT)
    (folder / "lora_adapter/adapter_model.safetensors").write_bytes(b"not read")
    views = ("scene", "wrist") if robot == "libero" else ("high", "left_wrist", "right_wrist")
    _robot(folder, dims, views, name)


BASES: Mapping[str, Callable[[Path], object]] = {
    "openvla": _openvla,
    "openvla siglip": lambda folder: _openvla(folder, fused=False),
    "oft libero": lambda folder: _oft(folder, "libero"),
    "oft aloha": lambda folder: _oft(folder, "aloha"),
    "oft ours": write_tiny_checkpoint,
}


def _fine_tuned(folder: Path) -> None:
    write_json(folder, "dataset_statistics.json", {"libero_spatial_no_noops": statistics(7, 8)})
    _robot(folder, (7, 0, 1), ("image",), "libero_spatial_no_noops")


def _prismatic(folder: Path) -> None:
    remove(folder, "*")
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints/step-295000-epoch-40-loss=0.2200.pt").write_bytes(b"not read")
    (folder / "config.yaml").write_text("vla: {}\n")
    write_json(
        folder, "config.json", {"data_root_dir": "/data", "vla": {"type": "prism-dinosiglip-224px+mx-oxe"}}
    )
    write_json(folder, "dataset_statistics.json", {"bridge_orig": statistics(7, 7)})


def _adapter(folder: Path) -> None:
    remove(folder, "model*", "config.json", "generation_config.json")
    write_json(folder, "adapter_config.json", PEFT)
    (folder / "adapter_model.safetensors").write_bytes(b"not read")


def _latent(folder: Path) -> None:
    write_llama(folder, {"<PAD>": 32000, **{f"<ACT_{number}>": 32001 + number for number in range(32)}})


def _lora_inside(folder: Path) -> None:
    name = "base_model.model.language_model.model.layers.0.self_attn.q_proj.lora_A.default.weight"
    rewrite_weights(folder, shards=3, **{name: torch.zeros(4, 24)})


def _steps(folder: Path) -> None:
    for head in ("action_head", "proprio_projector"):
        (found,) = folder.glob(f"{head}--*")
        (folder / f"{head}--50000_checkpoint.pt").write_bytes(found.read_bytes())


def _denoising(folder: Path) -> None:
    (folder / "noisy_action_projector--150000_checkpoint.pt").write_bytes(b"not read")


def _film(folder: Path) -> None:
    (folder / "vision_backbone--150000_checkpoint.pt").write_bytes(b"not read")


def _bits(folder: Path) -> None:
    edit(
        folder,
        quantization_config={"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "_load_in_4bit": True},
    )


def _discrete(folder: Path) -> None:
    remove(folder, "*.pt", "lora_adapter", CODE[1])
    edit(folder, num_images_in_input=1, unnorm_key="libero_no_noops", use_proprio=False)


def _no_statistics(folder: Path) -> None:
    edit(folder, norm_stats=None)


def _unchosen(folder: Path) -> None:
    edit(folder, "embodiment.json", statistics_key="")


LAYOUTS: Mapping[str, Layout] = {
    "OpenVLA, statistics of several data sets in `config.json`": Layout("openvla", as_it_is),
    "OpenVLA, no data set chosen among several": Layout("openvla", _unchosen),
    "OpenVLA fine-tuned, `dataset_statistics.json`": Layout("openvla", _fine_tuned),
    "OpenVLA with SigLIP alone": Layout("openvla siglip", as_it_is),
    "OpenVLA without statistics": Layout("openvla", _no_statistics),
    "OpenVLA v0.1, on Vicuna": Layout(
        "openvla", lambda folder: edit(folder, llm_backbone_id="vicuna-v15-7b")
    ),
    "MiniVLA's layout converted, on Qwen2.5": Layout(
        "openvla",
        lambda folder: edit(folder, llm_backbone_id="qwen25-0_5b-extra"),
    ),
    "OpenVLA cloned without `git lfs`": Layout("openvla", lambda folder: point_to_lfs(folder, "model-*")),
    "OpenVLA as Prismatic trains it, `checkpoints/*.pt`": Layout("openvla", _prismatic),
    "OpenVLA, LoRA adapter alone": Layout("openvla", _adapter),
    "OpenVLA, LoRA weights among its own": Layout("openvla", _lora_inside),
    "OpenVLA in 4 bits (bitsandbytes)": Layout("openvla", _bits),
    "UniVLA": Layout("openvla", _latent),
    "OpenVLA-OFT, LIBERO": Layout("oft libero", as_it_is),
    "OpenVLA-OFT, ALOHA": Layout("oft aloha", as_it_is),
    "OpenVLA-OFT, heads of two steps": Layout("oft libero", _steps),
    "OpenVLA-OFT, heads not downloaded": Layout("oft libero", lambda folder: remove(folder, "*.pt")),
    "OpenVLA-OFT, action head not downloaded": Layout(
        "oft libero", lambda folder: remove(folder, "action_head*")
    ),
    "OpenVLA-OFT without proprioception": Layout(
        "oft libero", lambda folder: remove(folder, "proprio_projector*")
    ),
    "OpenVLA-OFT, heads as `git lfs` pointers": Layout(
        "oft libero", lambda folder: point_to_lfs(folder, "*.pt")
    ),
    "OpenVLA-OFT, adapter not merged": Layout(
        "oft libero", lambda folder: remove(folder, "model*", "config.json")
    ),
    "OpenVLA-OFT with discrete tokens (RLinf, SimpleVLA-RL)": Layout("oft libero", _discrete),
    "OpenVLA-OFT, diffusion head": Layout("oft libero", _denoising),
    "OpenVLA-OFT, FiLM": Layout("oft libero", _film),
    "OpenVLA-OFT as saccade-mini has it": Layout("oft ours", as_it_is),
}
"""Name of a layout to the checkpoint that it is a variant of, and what is changed."""
