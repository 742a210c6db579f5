"""Models of families that nothing here runs: by what their files call them, or by how they lie."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from saccade.export.loading.checkpoint_folder import CONFIG_NAME, CheckpointFolder

_NO_TOKENS = "a policy without a vision-language model: it has no visual tokens to select"
_NO_TEXT = "a language model without a vision tower"
OTHERS: Mapping[str, str] = {
    "pi0_fast": "π0-FAST, which says its actions token by token",
    "pi0fast": "π0-FAST, which says its actions token by token",
    "groot": "GR00T",
    "gr00t_n1": "GR00T N1",
    "gr00t_n1_5": "GR00T N1.5",
    "xvla": "X-VLA",
    "wall_x": "WALL-X",
    "spatialvla": "SpatialVLA, which is built on PaliGemma 2",
    "paligemma": "PaliGemma, the model that π0 grew from, without an action expert",
    "smolvlm": "SmolVLM2, the model that SmolVLA grew from, without an action expert",
    "idefics3": "Idefics3 or the first SmolVLM",
    "qwen2_vl": "Qwen2-VL",
    "qwen3_vl_moe": "Qwen3-VL with a mixture of experts",
    "qwen2_5_omni": "Qwen2.5-Omni",
    "vipllava": "VipLLaVA",
    "video_llava": "Video-LLaVA",
    "llava_next_video": "LLaVA-NeXT-Video",
    "internvl": "InternVL",
    "internvl_chat": "InternVL",
    "mllama": "Llama 3.2 Vision",
    "gemma3": "Gemma 3",
    **dict.fromkeys(("act", "diffusion", "vqbet", "tdmpc", "sac", "multi_task_dit"), _NO_TOKENS),
    **dict.fromkeys(("llama", "mistral", "gemma", "gemma2", "qwen2", "qwen3"), _NO_TEXT),
}
"""What ``model_type`` or ``type`` calls a family that is known, and not run here: name to what it is."""
_LLAVA_OF_AUTHORS = ("llava", "llava_llama", "llava_mistral")
_CONVERTED = {
    "llava": "llava-hf/llava-1.5-7b-hf",
    "llava_llama": "llava-hf/llava-1.5-7b-hf",
    "llava_mistral": "llava-hf/llava-v1.6-mistral-7b-hf",
}


def other_layout(folder: CheckpointFolder) -> str | None:
    """Recognise a model that is read here in another layout only: LLaVA's and Prismatic's own."""
    name = folder.stated_family
    if name in _LLAVA_OF_AUTHORS and "mm_vision_tower" in folder.config:
        return (
            f"expected LLaVA in the layout of transformers, found that of its authors' repository ({CONFIG_NAME}: "
            f"mm_vision_tower), whose tower is in another checkpoint; take the same model as transformers has it, such "
            f"as {_CONVERTED[name]}."
        )
    runs = sorted(entry.name for entry in (folder / "checkpoints").glob("*.pt"))
    if name is None and runs:
        return (
            f"expected OpenVLA in the layout of transformers, found a training of Prismatic (checkpoints/{runs[0]}): a "
            "pickle, which is never opened here; convert it where OpenVLA's code is: python "
            "vla-scripts/extern/convert_openvla_weights_to_hf.py --openvla_model_path_or_id FOLDER "
            "--output_hf_model_local_path OUT."
        )
    return None


def unknown_family(folder: CheckpointFolder, what: str, known: Collection[str]) -> str:
    """Return the message for a checkpoint that no known family claims.

    Args:
        folder: The checkpoint.
        what: Families that were wanted, in words.
        known: Their names.
    """
    name = folder.stated_family
    if name is None:
        return (
            f"{CONFIG_NAME}: expected a 'model_type' or 'type' of {', '.join(known)}, found none; give the folder of a "
            "published checkpoint, with the config.json that came with it."
        )
    kind = f": {OTHERS[name]}" if name in OTHERS else ""
    return (
        f"expected a checkpoint of {what} ({', '.join(known)}), found {name!r} in {CONFIG_NAME}{kind}; nothing here "
        "runs it. Take a model of one of these, or register a family of your own (entry point saccade.families)."
    )


def other_class(folder: CheckpointFolder, family: str, classes: Collection[str]) -> str | None:
    """Recognise a model that states a family's ``model_type`` and is of another class.

    Args:
        folder: The checkpoint.
        family: Name of the family that claims it.
        classes: Classes that ``architectures`` names for the family; none = not known, so that nothing is told.

    Returns:
        The message; None where ``config.json`` names one of the classes, or none at all.
    """
    found = folder.config.get("architectures")
    names = [name for name in found if isinstance(name, str)] if isinstance(found, list) else []
    if not classes or not names or any(name in classes for name in names):
        return None
    return (
        f"{CONFIG_NAME}: architectures: expected {' or '.join(classes)}, the class of {family}, found "
        f"{', '.join(names)}: another model, which shares the model_type and builds on it or is a part of it; nothing "
        "here runs it."
    )
