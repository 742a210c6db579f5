"""Models that state OpenVLA's ``model_type`` and are none: what says so is a field, a file or a token.

Weights cannot tell: OpenVLA-OFT with discrete tokens and UniVLA have OpenVLA's, letter by letter.
"""

from __future__ import annotations

from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.neighbours.adapters import OFT_ADAPTER
from saccade.export.loading.prismatic import MODEL_TYPE
from saccade.export.loading.torch_heads import head_steps

_HEAD = "action_head"
_OTHER_HEADS = ("proprio_projector", "noisy_action_projector", "vision_backbone")
_DISCRETE = ("num_images_in_input", "unnorm_key", "use_proprio", "num_action_chunks", "action_dim")
"""Fields that RLinf and SimpleVLA-RL write into ``config.json``; OpenVLA and OpenVLA-OFT have none of them."""
_CODE, _CODE_OF_OFT = "modeling_prismatic.py", "NUM_ACTIONS_CHUNK"
_LATENT = "<ACT_0>"
"""First of the latent actions that UniVLA adds to Llama's vocabulary."""


def openvla_neighbour(folder: CheckpointFolder) -> str | None:
    """Recognise OpenVLA-OFT without its head, or with discrete tokens, and UniVLA."""
    if folder.stated_family != MODEL_TYPE or head_steps(folder, _HEAD):
        return None
    others = [head for head in _OTHER_HEADS if head_steps(folder, head)]
    if others:
        return (
            f"expected {_HEAD}--<step>_checkpoint.pt beside {others[0]}, found none: this is OpenVLA-OFT without its "
            "head; download the .pt files too."
        )
    fields = [name for name in _DISCRETE if name in folder.config]
    if fields:
        return (
            f"expected {_HEAD}--<step>_checkpoint.pt, found none beside a configuration of OpenVLA-OFT ({fields[0]}): "
            "it has discrete tokens, as RLinf and SimpleVLA-RL train it, and says a whole chunk in one pass without "
            "order, which nothing here runs; take an OpenVLA-OFT with a continuous head, or an OpenVLA."
        )
    sign = _sign_of_oft(folder)
    if sign is not None:
        return (
            f"expected {_HEAD}--<step>_checkpoint.pt and proprio_projector--<step>_checkpoint.pt, found neither: "
            f"{sign} says that this is OpenVLA-OFT; download the .pt files too. One with discrete tokens has "
            "none, and nothing here runs it."
        )
    if _has_latent_actions(folder):
        return (
            f"expected action tokens of OpenVLA, found the token {_LATENT!r}: this is UniVLA, whose tokens are latent "
            "actions for a decoder of its own, which nothing here runs; take an OpenVLA."
        )
    return None


def _sign_of_oft(folder: CheckpointFolder) -> str | None:
    """Return the file that tells that a checkpoint without heads is of OpenVLA-OFT."""
    if (folder / OFT_ADAPTER).is_dir():
        return f"{OFT_ADAPTER}/"
    code = folder / _CODE
    if code.is_file() and _CODE_OF_OFT in code.read_text(encoding="utf-8", errors="replace"):
        return _CODE
    return None


def _has_latent_actions(folder: CheckpointFolder) -> bool:
    if folder.has("added_tokens.json") and _LATENT in folder.read("added_tokens.json"):
        return True
    return folder.has_tokenizer and folder.tokenizer.token_to_id(_LATENT) is not None
