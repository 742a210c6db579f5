"""Adapters: files that hold only what fine-tuning added to a model, which is somewhere else."""

from __future__ import annotations

from typing import Any

from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.shards import has_weights

_SETTINGS, _WEIGHTS = "adapter_config.json", ("adapter_model.safetensors", "adapter_model.bin")
_MORE = "non_lora_"
"""Beginning of a file with what was trained beside the adapter, such as LLaVA's projector; peft does not read it."""
OFT_ADAPTER = "lora_adapter"
"""Folder in which OpenVLA-OFT's fine-tuning keeps its adapter; beside merged weights it is a record, nothing more."""


def adapter(folder: CheckpointFolder) -> str | None:
    """Recognise an adapter without its model, or one beside weights that may have it in them already or not."""
    if _has_adapter(folder, ""):
        return _of_peft(folder)
    if _has_adapter(folder, OFT_ADAPTER) and not has_weights(folder.path):
        base = _base(folder, f"{OFT_ADAPTER}/{_SETTINGS}") or "openvla/openvla-7b"
        return (
            f"expected merged weights beside {OFT_ADAPTER}/, found the adapter alone: OpenVLA-OFT was trained without "
            "merging, so that the model's own weights are in another checkpoint; merge them where its code is: python "
            f"vla-scripts/merge_lora_weights_and_save.py --base_checkpoint {base} --lora_finetuned_checkpoint_dir "
            f"{folder.name}."
        )
    return None


def _of_peft(folder: CheckpointFolder) -> str:
    base = _base(folder, _SETTINGS)
    if has_weights(folder.path):
        return (
            f"expected weights with everything in them, found an adapter ({_SETTINGS}) beside them: transformers adds "
            "it to the weights when it loads them, and nothing says whether they have it already; merge it (peft: "
            "merge_and_unload), or, if that was done, take the adapter's files out of the folder."
        )
    beside = next((entry.name for entry in folder if entry.name.startswith(_MORE)), "")
    more = f"; its code has to put the weights in {beside} into the model too" if beside else ""
    return (
        f"expected a whole checkpoint, found an adapter alone ({_SETTINGS}): it holds what fine-tuning added to "
        f"{base or 'a model that it does not name'}, and no model; merge both where peft is installed "
        f"(PeftModel.from_pretrained(model, folder).merge_and_unload().save_pretrained(out)){more} and take what comes "
        "out, with the tokenizer and the other files of this folder beside it."
    )


def _has_adapter(folder: CheckpointFolder, place: str) -> bool:
    return any((folder / place / name).is_file() for name in (_SETTINGS, *_WEIGHTS))


def _base(folder: CheckpointFolder, settings: str) -> str:
    """Return the model that an adapter was trained on; empty where it does not say."""
    stored: dict[str, Any] = folder.read(settings) if folder.has(settings) else {}
    base = stored.get("base_model_name_or_path")
    return base if isinstance(base, str) else ""
