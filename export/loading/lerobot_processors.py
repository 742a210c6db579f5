"""The steps of lerobot's processors: what happens to an observation before the model, and to an action after it.

Source:
    lerobot 0.6.1, ``DataProcessorPipeline.save_pretrained``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.json_fields import JsonFields
from saccade.proto.errors import CheckpointError

PREPROCESSOR, POSTPROCESSOR = "policy_preprocessor.json", "policy_postprocessor.json"
_NAME = "registry_name"
_NEW_LINES = ("pi0_new_line_processor", "smolvla_new_line_processor")
_log = logging.getLogger(__name__)
KNOWN = frozenset((
    "absolute_actions_processor",
    "delta_actions_processor",
    "device_processor",
    "normalizer_processor",
    "pi05_prepare_state_tokenizer_processor_step",
    "pi0_new_line_processor",
    "relative_actions_processor",
    "rename_observations_processor",
    "smolvla_new_line_processor",
    "to_batch_processor",
    "tokenizer_processor",
    "unnormalizer_processor",
))  # fmt: skip
"""Steps of the policies that are read here; whoever trains may add others."""


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


def ends_the_line(folder: CheckpointFolder) -> bool:
    """Whether an instruction ends with a line break: as lerobot's preprocessor has it, and where there is none.

    Raises:
        CheckpointError: The processor's file is broken.
    """
    return not folder.has(PREPROCESSOR) or bool(processor_steps(folder, PREPROCESSOR, *_NEW_LINES))


def warn_of_unknown_steps(folder: CheckpointFolder) -> None:
    """Say which steps of a checkpoint's processors nothing here does: they are the robot's to do.

    Raises:
        CheckpointError: A processor's file is missing or broken.
    """
    for file in (PREPROCESSOR, POSTPROCESSOR):
        steps = folder.read(file).get("steps")
        names = [str(entry.get(_NAME)) for entry in steps or () if isinstance(entry, Mapping)]
        unknown = [name for name in names if name not in KNOWN]
        if unknown:
            _log.warning(
                "%s: steps that nothing here does, do them on the robot: %s", file, ", ".join(unknown)
            )
