"""π0, π0.5, SmolVLA and what lies in their places: lerobot's, transformers' and openpi's folders."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor
from transformers.models.smolvlm.modeling_smolvlm import SmolVLMVisionTransformer

from saccade.export.families.deployment import Deployment
from saccade.export.families.embodiment import write_embodiment
from saccade.export.families.pi import config as pi_config
from saccade.export.families.smolvla.config import read_config
from saccade.export.families.smolvla.model import build
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.proto.manifest import ActionSpec, LimitsSpec, VectorSpec
from tests.export.families import pi_scenes
from tests.export.families.control_steps import EMBODIMENT
from tests.export.families.pi05_reference import Pi05Reference
from tests.export.families.published import randomise
from tests.export.families.real_tokenizers import PALIGEMMA_ROWS
from tests.export.layouts.folders import (
    Layout,
    as_it_is,
    beside,
    edit,
    remove,
    rewrite_weights,
    write_json,
    write_weights,
)
from tests.export.layouts.vocabularies import write_paligemma, write_qwen

STATE, ACTION, CHUNK, WIDTH = 6, 6, 50, 32
"""Numbers of an SO-100's state and action; chunk and width of every published flow policy."""
PALIGEMMA = "google/paligemma-3b-pt-224"
CAMERAS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")


def know_tiny_variants(patch: pytest.MonkeyPatch) -> None:
    """Let lerobot's names of variants mean tiny models with the published vocabulary."""
    patch.setattr(pi_scenes, "IMAGE_ID", PALIGEMMA_ROWS)
    patch.setitem(pi_config.GEMMA_VARIANTS, "gemma_2b", pi_scenes.vlm(1)["text_config"])
    patch.setitem(pi_config.GEMMA_VARIANTS, "gemma_300m", pi_scenes.expert(1))
    patch.setattr(pi_config, "TOWER", pi_scenes.TOWER)
    patch.setitem(pi_config._DEFAULTS, "image_resolution", (20, 20))  # openpi's files do not say it


def _features(names: Sequence[str], size: int = 224) -> dict[str, Any]:
    cameras = {f"observation.images.{name}": {"type": "VISUAL", "shape": [3, size, size]} for name in names}
    return {
        "input_features": {"observation.state": {"type": "STATE", "shape": [STATE]}, **cameras},
        "output_features": {"action": {"type": "ACTION", "shape": [ACTION]}},
    }


def _processors(folder: Path, mode: str, prompt: str, tokenizer: str, vectors: Mapping[str, Tensor]) -> None:
    """Write lerobot's processors and their state, named as it names them."""
    state, norm = "step_5_normalizer_processor", {"VISUAL": "IDENTITY", "STATE": mode, "ACTION": mode}
    normalise = {"eps": 1e-8, "features": {}, "norm_map": norm}
    before = [
        {"registry_name": "rename_observations_processor", "config": {"rename_map": {}}},
        {"registry_name": "to_batch_processor", "config": {}},
        {"registry_name": prompt, "config": {}},
        {"registry_name": "tokenizer_processor", "config": {"tokenizer_name": tokenizer, "max_length": 48}},
        {"registry_name": "device_processor", "config": {"device": "cuda", "float_dtype": None}},
        {
            "registry_name": "normalizer_processor",
            "config": normalise,
            "state_file": f"policy_preprocessor_{state}.safetensors",
        },
    ]
    after = [
        {
            "registry_name": "unnormalizer_processor",
            "config": normalise,
            "state_file": "policy_postprocessor_step_0_unnormalizer_processor.safetensors",
        },
        {"registry_name": "device_processor", "config": {"device": "cpu", "float_dtype": None}},
    ]
    for name, steps in (("policy_preprocessor", before), ("policy_postprocessor", after)):
        write_json(folder, f"{name}.json", {"name": name, "steps": steps})
        for step in steps:
            if "state_file" in step:
                save_file(dict(vectors), folder / str(step["state_file"]))


def _vectors() -> dict[str, Tensor]:
    found = {}
    for name, dim in (("observation.state", STATE), ("action", ACTION)):
        rising = torch.arange(1.0, 5.0)[:, None] * torch.linspace(0.5, 1.0, dim)
        found |= {
            f"{name}.{part}": row.clone()
            for part, row in zip(("min", "q01", "q99", "max"), rising, strict=True)
        }
        found |= {f"{name}.mean": rising[0].clone(), f"{name}.std": rising[1].clone()}
    return found


def _robot(folder: Path, views: Sequence[str], **changes: Any) -> None:
    """Write the embodiment of an SO-100."""
    joints = tuple(f"joint{number}" for number in range(STATE))
    given = replace(
        EMBODIMENT,
        name="so100",
        views=tuple(views),
        proprio=VectorSpec(joints, ("rad",) * STATE),
        action=ActionSpec(joints, ("rad",) * ACTION, CHUNK, 30.0, "absolute_joint"),
        limits=LimitsSpec((-4.0,) * ACTION, (4.0,) * ACTION, (1.0,) * ACTION),
        **changes,
    )
    write_embodiment(given, folder)


def _pi0_model() -> Any:
    config = transformers.PI0Config(
        vlm_config=pi_scenes.vlm(1),
        dit_config=pi_scenes.expert(1),
        chunk_size=CHUNK,
        max_state_dim=WIDTH,
        max_action_dim=WIDTH,
    )
    model = transformers.PI0ForConditionalGeneration(config)
    randomise(model)
    return model.eval()


def _transformers_pi0(folder: Path) -> None:
    _pi0_model().save_pretrained(folder)
    rewrite_weights(folder)
    half = [0.5] * 3
    image = {"image_mean": half, "image_std": half, "do_normalize": True, "do_rescale": True}
    sides = {"do_resize": True, "resample": 2, "size": {"height": 20, "width": 20}}
    numbers = {f"{part}_{name}": [1.0] * WIDTH for part in ("state", "actions") for name in ("mean", "std")}
    write_json(folder, "processor_config.json", {"image_processor": {**image, **sides}, **numbers})
    write_paligemma(folder)
    beside(folder)
    _robot(folder, CAMERAS)


def _lerobot_pi(folder: Path, family: str) -> None:
    """Write what lerobot 0.6.2 saves; the tokenizer is in a folder of its own."""
    if family == "pi0":
        _pi0_model().save_pretrained(folder)
        rewrite_weights(
            folder, lambda name: f"model.{name}".replace(".vision_tower.", ".vision_tower.vision_model.")
        )
    else:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tests.export.families.pi05_reference.ACTION", WIDTH)
            folder.rmdir()
            Pi05Reference(kv_heads=1).save(folder)
        rewrite_weights(folder)
    policy = {
        "type": family,
        "n_obs_steps": 1,
        **_features(CAMERAS),
        "normalization_mapping": {"VISUAL": "IDENTITY", "STATE": "MEAN_STD", "ACTION": "MEAN_STD"},
        "paligemma_variant": "gemma_2b",
        "action_expert_variant": "gemma_300m",
        "dtype": "bfloat16",
        "chunk_size": CHUNK,
        "n_action_steps": CHUNK,
        "max_state_dim": WIDTH,
        "max_action_dim": WIDTH,
        "num_inference_steps": 10,
        "image_resolution": [20, 20],
        "empty_cameras": 0,
        "tokenizer_max_length": 48 if family == "pi0" else 200,
        "use_peft": False,
        "push_to_hub": True,
        "repo_id": f"someone/{family}",
    }
    write_json(folder, "config.json", policy)
    mode, prompt = (
        ("MEAN_STD", "pi0_new_line_processor")
        if family == "pi0"
        else ("QUANTILES", "pi05_prepare_state_tokenizer_processor_step")
    )
    _processors(folder, mode, prompt, PALIGEMMA, _vectors())
    (folder / "tokenizer").mkdir()
    write_paligemma(folder / "tokenizer")
    write_json(folder, "train_config.json", {"steps": 100000})
    beside(folder)
    _robot(folder, CAMERAS)


def _smolvla(folder: Path) -> None:
    """Write what lerobot 0.6.2 saves of a SmolVLA on a backbone of another size, whose configuration lies beside it."""
    text = {"model_type": "llama", "hidden_size": 48, "intermediate_size": 40, "num_hidden_layers": 4}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 151936}
    tower = {"model_type": "smolvlm_vision", "hidden_size": 24, "intermediate_size": 40, "image_size": 32}
    blocks = {"num_hidden_layers": 3, "num_attention_heads": 2, "patch_size": 8}
    vision = {**tower, **blocks}
    backbone = {
        "model_type": "smolvlm",
        "scale_factor": 2,
        "text_config": {**text, **heads},
        "vision_config": vision,
    }
    write_json(folder, "backbone_config.json", backbone)
    policy = {
        "type": "smolvla",
        "n_obs_steps": 1,
        **_features(("camera1", "camera2"), 256),
        "normalization_mapping": {"VISUAL": "IDENTITY", "STATE": "MEAN_STD", "ACTION": "MEAN_STD"},
        "chunk_size": CHUNK,
        "n_action_steps": CHUNK,
        "max_state_dim": WIDTH,
        "max_action_dim": WIDTH,
        "resize_imgs_with_padding": [32, 32],
        "empty_cameras": 0,
        "adapt_to_pi_aloha": False,
        "use_delta_joint_actions_aloha": False,
        "tokenizer_max_length": 48,
        "num_steps": 10,
        "use_cache": True,
        "vlm_model_name": "someone/SmolVLM2-tiny",
        "load_vlm_weights": True,
        "add_image_special_tokens": False,
        "attention_mode": "cross_attn",
        "prefix_length": 0,
        "pad_language_to": "max_length",
        "num_expert_layers": 0,
        "num_vlm_layers": 4,
        "self_attn_every_n_layers": 2,
        "expert_width_multiplier": 0.75,
    }
    write_json(folder, "config.json", policy)
    write_weights(folder, _smolvla_weights(folder, vision))
    model = "HuggingFaceTB/SmolVLM2-500M-Video-Instruct"
    _processors(folder, "MEAN_STD", "smolvla_new_line_processor", model, _vectors())
    (folder / "tokenizer").mkdir()
    write_qwen(folder / "tokenizer")
    beside(folder)
    _robot(folder, ("camera1", "camera2"))


def _smolvla_weights(folder: Path, vision: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return random weights under lerobot's names."""
    names = {
        "decoder": "vlm_with_expert.vlm.model.text_model",
        "projector": "vlm_with_expert.vlm.model.connector.modality_projection.proj",
        "expert": "vlm_with_expert.lm_expert",
        "lm_head": "vlm_with_expert.vlm.lm_head",
        "action_time": "",
    }
    wanted = build(read_config(CheckpointFolder(folder), Deployment(views=2))).state_dict()
    shapes = {}
    for name, weight in wanted.items():
        part, _, rest = name.partition(".")
        if part != "vision":
            shapes[".".join(filter(None, ("model", names.get(part, part), rest)))] = weight.shape
    tower = SmolVLMVisionTransformer(transformers.SmolVLMVisionConfig(**vision))
    place = "model.vlm_with_expert.vlm.model.vision_model"
    shapes |= {f"{place}.{name}": weight.shape for name, weight in tower.state_dict().items()}
    shapes["model.vlm_with_expert.vlm.model.text_model.norm.weight"] = torch.Size([48])
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) / 8 for name, shape in shapes.items()}


BASES: Mapping[str, Callable[[Path], object]] = {
    "transformers pi0": _transformers_pi0,
    "lerobot pi0": lambda folder: _lerobot_pi(folder, "pi0"),
    "lerobot pi05": lambda folder: _lerobot_pi(folder, "pi05"),
    "smolvla": _smolvla,
}


def _openpi(folder: Path) -> None:
    """What openpi's conversion writes, with the assets copied beside it."""
    remove(folder, "policy_*", "train_config.json")
    rewrite_weights(folder, lambda name: re.sub(r"^model\.", "", name))
    (folder / "tokenizer/tokenizer.json").rename(folder / "tokenizer.json")
    (folder / "tokenizer").rmdir()
    sizes = {"paligemma_variant": "gemma_2b", "action_expert_variant": "gemma_300m", "precision": "bfloat16"}
    write_json(folder, "config.json", {"action_dim": WIDTH, "action_horizon": CHUNK, **sizes})
    part = {"mean": [0.0] * WIDTH, "std": [1.0] * WIDTH, "q01": [-1.0] * WIDTH, "q99": [1.0] * WIDTH}
    write_json(folder, "assets/trossen/norm_stats.json", {"norm_stats": {"state": part, "actions": part}})
    _robot(folder, CAMERAS, image_size=(480, 640))


def _of_openpi(change: Callable[[Path], object]) -> Layout:
    def both(folder: Path) -> object:
        _openpi(folder)
        return change(folder)

    return Layout("lerobot pi0", both)


def _without_tokenizer(folder: Path) -> None:
    remove(folder, "tokenizer")


def _base_model(folder: Path) -> None:
    for name in ("policy_preprocessor", "policy_postprocessor"):
        remove(folder, f"{name}_step*")
        stored = (folder / f"{name}.json").read_text()
        (folder / f"{name}.json").write_text(re.sub(r',\s*"state_file": "[^"]*"', "", stored))


def _early(folder: Path, *, is_set: bool) -> None:
    """The layout of lerobot before September 2025: statistics are buffers, fields have other names."""
    remove(folder, "policy_*", "tokenizer")
    mean = torch.zeros(STATE) if is_set else torch.full((STATE,), torch.inf)
    parts = [
        ("normalize_inputs", "observation_state"),
        ("normalize_targets", "action"),
        ("unnormalize_outputs", "action"),
    ]
    buffers = {f"{place}.buffer_{name}.{part}": mean for place, name in parts for part in ("mean", "std")}
    rewrite_weights(folder, **buffers)
    edit(
        folder,
        num_steps=10,
        num_inference_steps=None,
        resize_imgs_with_padding=[20, 20],
        image_resolution=None,
        proj_width=16,
        adapt_to_pi_aloha=False,
        use_delta_joint_actions_aloha=False,
        paligemma_variant=None,
        action_expert_variant=None,
    )


def _early_base(folder: Path) -> None:
    _early(folder, is_set=False)
    edit(folder, input_features={}, output_features={})


def _by_data_set(folder: Path) -> None:
    for file in folder.glob("policy_*.safetensors"):
        save_file({f"so100.buffer.{name}": value for name, value in _vectors().items()}, file)


def _jax(folder: Path, *, names: Sequence[str]) -> None:
    remove(folder, "*")
    (folder / "_CHECKPOINT_METADATA").parent.mkdir(exist_ok=True)
    write_json(folder, "_CHECKPOINT_METADATA", {"item_handlers": {"params": "orbax"}})
    tree = {str(("params", *name.split("/"))): {"value_metadata": {}} for name in names}
    write_json(folder, "params/_METADATA", {"tree_metadata": tree, "use_zarr3": False})
    (folder / "params/manifest.ocdbt").write_bytes(b"not read")
    (folder / "train_state").mkdir()


EXPERT = ("PaliGemma/llm/embedder/input_embedding", "action_in_proj/kernel", "state_proj/kernel")


def _trained_in_torch(folder: Path) -> None:
    remove(folder, "config.json")
    for name in ("metadata.pt", "optimizer.pt"):
        (folder / name).write_bytes(b"not read")


def _training(folder: Path) -> Path:
    """What lerobot-train leaves: checkpoints by step, the model in one folder, the state of training in another."""
    inside = folder / "checkpoints" / "100000" / "pretrained_model"
    entries = list(folder.iterdir())
    inside.mkdir(parents=True)
    for entry in entries:
        shutil.move(entry, inside / entry.name)
    state = inside.parent / "training_state"
    write_json(state, "training_step.json", {"step": 100000})
    (state / "optimizer_state.safetensors").write_bytes(b"not read")
    return inside.parent


def _adapter(folder: Path) -> None:
    remove(folder, "model.safetensors")
    edit(folder, use_peft=True)
    write_json(
        folder, "adapter_config.json", {"peft_type": "LORA", "base_model_name_or_path": "lerobot/pi05_base"}
    )
    (folder / "adapter_model.safetensors").write_bytes(b"not read")


def _typed(name: str) -> Callable[[Path], object]:
    return lambda folder: edit(folder, type=name)


LAYOUTS: Mapping[str, Layout] = {
    "π0 of transformers": Layout("transformers pi0", as_it_is),
    "π0 of lerobot 0.6.2, `tokenizer/`": Layout("lerobot pi0", as_it_is),
    "π0 of lerobot to 0.6.1, no tokenizer": Layout("lerobot pi0", _without_tokenizer),
    "π0 of lerobot before September 2025": Layout("lerobot pi0", lambda folder: _early(folder, is_set=True)),
    "π0 of lerobot before September 2025, base": Layout("lerobot pi0", _early_base),
    "π0 of lerobot, statistics never set": Layout("lerobot pi0", lambda folder: _early(folder, is_set=False)),
    "π0 of lerobot, `adapt_to_pi_aloha`": Layout("lerobot pi0", lambda folder: edit(folder, adapt_to_pi_aloha=True)),
    "π0.5 of lerobot 0.6.2": Layout("lerobot pi05", as_it_is),
    "π0.5 of lerobot, base": Layout("lerobot pi05", _base_model),
    "π0.5 of lerobot, LoRA adapter alone": Layout("lerobot pi05", _adapter),
    "π0 of openpi's conversion": _of_openpi(as_it_is),
    "π0.5 of openpi's conversion": Layout("lerobot pi05", _openpi),
    "π0 of openpi's conversion, no assets": _of_openpi(lambda folder: remove(folder, "assets")),
    "π0 of openpi, a LoRA variant": _of_openpi(
        lambda folder: edit(folder, paligemma_variant="gemma_2b_lora")
    ),
    "π0 of openpi's PyTorch training, no `config.json`": _of_openpi(_trained_in_torch),
    "π0 of openpi in JAX": _of_openpi(lambda folder: _jax(folder, names=EXPERT)),
    "π0 of openpi in JAX, with LoRA": _of_openpi(
        lambda folder: _jax(folder, names=(*EXPERT, "PaliGemma/llm/layers/mlp/lora_a"))
    ),
    "π0-FAST of openpi in JAX": _of_openpi(lambda folder: _jax(folder, names=EXPERT[:1])),
    "π0-FAST of lerobot": Layout("lerobot pi0", _typed("pi0_fast")),
    "ACT of lerobot": Layout("lerobot pi0", _typed("act")),
    "GR00T of lerobot": Layout("lerobot pi0", _typed("groot")),
    "lerobot's folder of a training step": Layout("smolvla", _training),
    "lerobot's folder of a whole training": Layout("smolvla", lambda folder: _training(folder).parents[1]),
    "lerobot's training state": Layout("smolvla", lambda folder: _training(folder) / "training_state"),
    "SmolVLA of lerobot 0.6.2": Layout("smolvla", as_it_is),
    "SmolVLA, statistics of data sets (smolvla_base)": Layout("smolvla", _by_data_set),
    "SmolVLA, `use_delta_joint_actions_aloha`": Layout(
        "smolvla", lambda folder: edit(folder, use_delta_joint_actions_aloha=True)
    ),
}  # fmt: skip
"""Name of a layout to the checkpoint that it is a variant of, and what is changed."""
