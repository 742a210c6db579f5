"""Refuses a folder that is a neighbour of what is read here, before a missing file or key is blamed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.neighbours.adapters import adapter
from saccade.export.loading.neighbours.openvla import openvla_neighbour
from saccade.export.loading.neighbours.other_models import other_layout
from saccade.export.loading.neighbours.quantised import quantised
from saccade.export.loading.neighbours.training_folders import training_folder
from saccade.proto.errors import CheckpointError

KINDS: Sequence[Callable[[CheckpointFolder], str | None]] = (
    adapter,
    quantised,
    training_folder,
    other_layout,
    openvla_neighbour,
)
"""In the order in which they are asked: an adapter of a quantised model is an adapter first."""


def refuse_neighbour(folder: CheckpointFolder) -> None:
    """Refuse a folder that is no checkpoint that is read here, but looks like one.

    Args:
        folder: The folder that was given as a checkpoint. No weight is read.

    Raises:
        CheckpointError: It is a neighbour: the message says what it is, why it is not read, and what to do.
    """
    for kind in KINDS:
        message = kind(folder)
        if message is not None:
            raise CheckpointError(message)
