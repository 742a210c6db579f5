"""The steps of lerobot's processors: what happens to an observation before the model, and to an action after it.

Source:
    lerobot 0.6.1, ``DataProcessorPipeline.save_pretrained``.
"""

from __future__ import annotations

from collections.abc import Mapping

from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.json_fields import JsonFields
from saccade.proto.errors import CheckpointError

PREPROCESSOR, POSTPROCESSOR = "policy_preprocessor.json", "policy_postprocessor.json"
_NAME = "registry_name"


def processor_steps(folder: CheckpointFolder, file: str, *names: str) -> tuple[JsonFields, ...]:
    """Return the steps of a processor that have one of the names lerobot registers them under.

    Args:
        folder: The checkpoint that is read.
        file: Name of the processor's file.
        names: Names of the step: releases differ.

    Raises:
        CheckpointError: The file is missing or broken.
    """
    steps = folder.read(file).get("steps")
    if not isinstance(steps, list):
        raise CheckpointError(f"{file}: expected the list 'steps', found {type(steps).__name__}.")
    return tuple(
        JsonFields(entry, f"{file}: {entry[_NAME]}")
        for entry in steps
        if isinstance(entry, Mapping) and entry.get(_NAME) in names
    )
