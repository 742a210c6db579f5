"""Folders of trainings and caches: a checkpoint is in them, under them or behind a conversion, but they are none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from saccade.export.loading.checkpoint_folder import CONFIG_NAME, CheckpointFolder

_MANIFEST = "manifest.json"
_CHECKPOINTS = ("*", "*/pretrained_model", "checkpoints/*", "checkpoints/*/pretrained_model", "snapshots/*")
"""Where checkpoints lie under folders that are none: of lerobot, of transformers' Trainer, of the Hub's cache."""
_ORBAX = ("_CHECKPOINT_METADATA", "_METADATA", "manifest.ocdbt")
_LEROBOT_STATE = ("training_step.json", "optimizer_state.safetensors")
_PARTITIONED = ("zero_to_fp32.py", "global_step*", "*.distcp", "pytorch_model_fsdp*", "*_optim_states.pt")
_SHOWN = 4


def training_folder(folder: CheckpointFolder) -> str | None:
    """Tell what a folder without ``config.json`` is: of a training, of a cache, of this program, or nothing known."""
    if folder.has(CONFIG_NAME):
        return None
    kinds = (_bundle, _of_orbax, _of_openpi_in_torch, _state_alone, _partitioned, _above)
    known = next((message for kind in kinds if (message := kind(folder.path)) is not None), None)
    return known or (
        f"expected {CONFIG_NAME} in {folder.name}/, found none; give the folder of a checkpoint, with every file "
        "that it was published or saved with."
    )


def _bundle(path: Path) -> str | None:
    if not ((path / _MANIFEST).is_file() and (path / "graphs").is_dir()):
        return None
    return (
        f"expected a checkpoint, found a bundle ({_MANIFEST}), which was exported already; give the folder that it was "
        "exported from."
    )


def _of_orbax(path: Path) -> str | None:
    """Recognise a checkpoint of JAX, as openpi trains and publishes them."""
    step = path.parent if path.name == "params" else path
    params = step / "params"
    if not any((place / name).is_file() for place in (step, params) for name in _ORBAX):
        return None
    names = _orbax_names(params)
    found = f"expected safetensors and {CONFIG_NAME}, found a checkpoint of JAX (orbax: {step.name}/params)"
    if names and "action_in_proj" not in names:
        return (
            f"{found} without an action expert, as openpi's π0-FAST is: it says actions token by token, which nothing "
            "here runs, converted or not; take a π0 or π0.5."
        )
    if "lora" in names:
        return (
            f"{found} with LoRA weights, which openpi's conversion does not know; train without the _lora variants, or "
            "add each product of its two LoRA matrices to its weight in JAX, and convert what comes out."
        )
    return (
        f"{found}; convert it where openpi is installed: python examples/convert_jax_model_to_pytorch.py "
        f"--checkpoint_dir {step.name} --config_name CONFIG --output_path OUT, with the name of the configuration that "
        "it was trained with, and copy assets/ beside what comes out."
    )


def _orbax_names(params: Path) -> str:
    """Return the names of the weights, as the metadata lists them; empty where it does not."""
    file = params / "_METADATA"
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    tree = stored.get("tree_metadata") if isinstance(stored, dict) else None
    return " ".join(tree) if isinstance(tree, dict) else ""


def _of_openpi_in_torch(path: Path) -> str | None:
    """Recognise what openpi's ``scripts/train_pytorch.py`` writes."""
    if not ((path / "model.safetensors").is_file() and (path / "metadata.pt").is_file()):
        return None
    return (
        f"expected {CONFIG_NAME}, found none: openpi's PyTorch training writes none (metadata.pt is there). Write it "
        "with the values of the configuration that it was trained with, as openpi's conversion does: "
        '{"action_dim": 32, "action_horizon": 50, "paligemma_variant": "gemma_2b", "action_expert_variant": '
        '"gemma_300m", "precision": "bfloat16"}.'
    )


def _state_alone(path: Path) -> str | None:
    if not any((path / name).is_file() for name in _LEROBOT_STATE):
        return None
    return (
        "expected a checkpoint, found lerobot's training state: optimizer and step, to go on training from; give the "
        "folder pretrained_model beside it."
    )


def _partitioned(path: Path) -> str | None:
    found = next((entry.name for pattern in _PARTITIONED for entry in sorted(path.glob(pattern))), None)
    if found is None:
        return None
    return (
        f"expected whole weights, found those of a training over several processes ({found}); gather them there "
        "(zero_to_fp32.py of DeepSpeed, accelerate merge-weights for FSDP) and save the model with save_pretrained."
    )


def _above(path: Path) -> str | None:
    below = list(_below(path))
    if not below:
        return None
    more = f" and {len(below) - _SHOWN} more" if len(below) > _SHOWN else ""
    return (
        f"expected {CONFIG_NAME} in {path.name}/, found checkpoints under it: {', '.join(below[:_SHOWN])}{more}; give "
        "one of these."
    )


def _below(path: Path) -> Iterator[str]:
    places = (place for pattern in _CHECKPOINTS for place in sorted(path.glob(pattern)))
    return (place.relative_to(path).as_posix() for place in places if (place / CONFIG_NAME).is_file())
