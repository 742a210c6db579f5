"""Which families there are, and how a published ``config.json`` says which of them a checkpoint belongs to.

A module of a family that answers has ``MODEL_TYPE``, ``read_config``, ``key_rules`` and ``build``; ``prompt``, the text
around pictures where the checkpoint has no chat template, and ``PLACEHOLDERS``, what such a template writes for a
picture; ``picture_size`` and ``picture_fit``, what the host makes of pictures; where it takes videos ``video_spec``.
``HAS_CHAT_TEMPLATE = False`` if the template beside its weights knows no pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType

from saccade.export.families.base import ActingFamily
from saccade.export.families.checkpoint import Checkpoint
from saccade.export.loading.json_fields import read_object
from saccade.export.loading.prismatic import MODEL_TYPE as PRISMATIC
from saccade.export.loading.shards import StoredWeights
from saccade.export.loading.torch_heads import head_steps
from saccade.export.loading.weights import hold_weights
from saccade.proto.errors import CheckpointError

GENERATING: Mapping[str, str] = {
    "llava": "saccade.export.families.llava.llava",
    "llava_next": "saccade.export.families.llava.next",
    "llava_onevision": "saccade.export.families.llava.onevision",
    "llava_qwen": "saccade.export.families.llava.video",
    "qwen2_5_vl": "saccade.export.families.qwen_vl.qwen2_5",
    "qwen3_vl": "saccade.export.families.qwen_vl.qwen3",
}
"""Families that answer in text: ``model_type`` to the module that reads it."""

ACTING: Mapping[str, str] = {
    "openvla": "saccade.export.families.openvla.checkpoint",
    "openvla_oft": "saccade.export.families.openvla_oft.checkpoint",
    "pi0": "saccade.export.families.pi.acting_pi0",
    "pi05": "saccade.export.families.pi.acting_pi05",
    "smolvla": "saccade.export.families.smolvla.checkpoint",
}
"""Families that act: name to the module whose ``load`` reads a folder into a
:class:`saccade.export.families.checkpoint.Checkpoint`."""


def generating_family(folder: Path) -> ModuleType:
    """Return the module of the family that a checkpoint belongs to.

    Raises:
        CheckpointError: There is no config.json, or it names no such family.
    """
    kind = stated_kind(folder)
    if kind is None or kind not in GENERATING:
        raise CheckpointError(
            f"config.json: model_type: expected a family that answers ({', '.join(GENERATING)}), found {kind!r}"
            + ("; `saccade export` takes it." if kind in ACTING else ".")
        )
    return import_module(GENERATING[kind])


def acting_family(folder: Path) -> ModuleType:
    """Return the module that reads the family of a checkpoint: it has ``load(folder) -> Checkpoint``.

    Raises:
        CheckpointError: There is no config.json, or it names no family that acts.
    """
    kind = stated_kind(folder)
    if kind is None or kind not in ACTING:
        raise CheckpointError(
            f"config.json: model_type: expected a family that acts ({', '.join(ACTING)}), found {kind!r}"
            + ("; `saccade export-answering` takes it." if kind in GENERATING else ".")
        )
    return import_module(ACTING[kind])


def stated_kind(folder: Path) -> str | None:
    """Return what a checkpoint says it is, in the words of :data:`ACTING` where it is known.

    transformers writes ``model_type``, lerobot ``type``, openpi's conversion neither: weights tell π0 and π0.5 apart.
    OpenVLA and OpenVLA-OFT share a ``model_type``: heads in files of their own tell them apart.
    """
    stored = read_object(folder, "config.json")
    if "action_horizon" in stored:
        names = StoredWeights(folder)
        return "pi05" if any("time_mlp_in" in name and "action" not in name for name in names) else "pi0"
    kind = stored.get("model_type", stored.get("type"))
    if kind == PRISMATIC:
        return "openvla_oft" if head_steps(folder, "action_head") else "openvla"
    return kind if isinstance(kind, str) else None


def load_checkpoint(path: Path, *, mapped: bool = False) -> Checkpoint[ActingFamily]:
    """Read a checkpoint of whatever family it is.

    Args:
        path: Its folder.
        mapped: Large weights may stay in the files, as in :func:`load_weights`; for what neither trains nor hurries.

    Raises:
        CheckpointError: A file, key or shape is missing, left over or wrong, or no family that acts is like it.
        StatisticsError: The statistics lack the data set, or are broken.
    """
    if not path.is_dir():
        raise CheckpointError(f"expected a checkpoint folder, found none at {path}.")
    checkpoint: Checkpoint[ActingFamily] = acting_family(path).load(path)
    if not mapped:
        hold_weights(checkpoint.module)
    return checkpoint
