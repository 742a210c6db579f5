"""Which families there are: ``model_type`` of a published ``config.json`` to the module that reads it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType

from saccade.export.loading.json_fields import JsonFields, read_object
from saccade.proto.errors import CheckpointError

GENERATING: Mapping[str, str] = {
    "llava": "saccade.export.families.llava",
    "llava_next": "saccade.export.families.llava_next",
    "llava_onevision": "saccade.export.families.llava_onevision",
    "llava_qwen": "saccade.export.families.llava_video",
    "qwen2_5_vl": "saccade.export.families.qwen2_5_vl",
    "qwen3_vl": "saccade.export.families.qwen3_vl",
}
"""Families that answer in text."""


def generating_family(folder: Path) -> ModuleType:
    """Return the module of the family that a checkpoint belongs to.

    Raises:
        CheckpointError: There is no config.json, or it names no such family.
    """
    kind = JsonFields(read_object(folder, "config.json"), "config.json").take("model_type", str)
    if kind not in GENERATING:
        raise CheckpointError(
            f"config.json: model_type: expected a family that answers ({', '.join(GENERATING)}), found {kind!r}."
        )
    return import_module(GENERATING[kind])
