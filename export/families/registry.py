"""Every family by name: those of this package in a literal table, those of others by entry point.

Another package registers a family without touching this one::

    [project.entry-points."saccade.families"]
    my_family = "my_package.my_family:READER"

A reader is an ``ActingReader`` or ``AnsweringReader`` (:mod:`saccade.export.families.reader`). No family imports this
module.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeAlias

from saccade.export.families.base import ActingFamily
from saccade.export.families.checkpoint import Checkpoint
from saccade.export.families.embedded_tokens import within_embedding
from saccade.export.families.reader import ActingReader, AnsweringReader, FamilyReader, stated_name
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.neighbours.other_models import other_class, unknown_family
from saccade.export.loading.neighbours.refusal import refuse_neighbour
from saccade.export.loading.torch_heads import check_head_step
from saccade.export.loading.weights import hold_weights
from saccade.proto.errors import CheckpointError

AnyReader: TypeAlias = FamilyReader[Any, Any]
ENTRY_POINTS = "saccade.families"

FAMILIES: Mapping[str, str] = {
    "openvla": "saccade.export.families.openvla.checkpoint:READER",
    "openvla_oft": "saccade.export.families.openvla_oft.checkpoint:READER",
    "pi0": "saccade.export.families.pi.checkpoint:PI0",
    "pi05": "saccade.export.families.pi.checkpoint:PI05",
    "smolvla": "saccade.export.families.smolvla.checkpoint:READER",
    "llava": "saccade.export.families.llava.llava:READER",
    "llava_next": "saccade.export.families.llava.next:READER",
    "llava_onevision": "saccade.export.families.llava.onevision:READER",
    "llava_qwen": "saccade.export.families.llava.video:READER",
    "qwen2_5_vl": "saccade.export.families.qwen_vl.qwen2_5:READER",
    "qwen3_vl": "saccade.export.families.qwen_vl.qwen3:READER",
}
"""Families of this package: name to ``module:reader``."""
_ACTS, _ANSWERS, _KNOWN = "a family that acts", "a family that answers", "a family that is known here"


def known_families() -> dict[str, str]:
    """Return every family that can be read, name to ``module:reader``; this package's own come first.

    Raises:
        CheckpointError: Another package registers a name that is taken.
    """
    known = dict(FAMILIES)
    for entry in entry_points(group=ENTRY_POINTS):
        if known.get(entry.name, entry.value) != entry.value:
            raise CheckpointError(
                f"expected each family once, found {entry.name!r} as {known[entry.name]} and as {entry.value}; rename "
                "one of them."
            )
        known[entry.name] = entry.value
    return known


def family_reader(name: str) -> AnyReader:
    """Return the reader of a known family.

    Raises:
        CheckpointError: What the name stands for cannot be loaded, or is no reader of that name.
    """
    where = known_families()[name]
    try:
        found = pkgutil.resolve_name(where)
    except (ImportError, AttributeError, ValueError) as error:
        raise CheckpointError(
            f"family {name!r} is registered as {where}, which cannot be loaded: {error}"
        ) from error
    if not (isinstance(found, (ActingReader, AnsweringReader)) and found.name == name):
        raise CheckpointError(
            f"family {name!r} is registered as {where}: expected an ActingReader or AnsweringReader whose name is "
            f"{name!r}, found {getattr(found, 'name', found)!r}."
        )
    return found


def find_reader(folder: CheckpointFolder) -> AnyReader:
    """Return the reader of the family that a checkpoint belongs to.

    Raises:
        CheckpointError: No known family claims the checkpoint, or it is a neighbour of one: an adapter alone, quantised
            weights, a training's folder, another model of the same ``model_type``.
    """
    reader = _claiming(folder)
    if reader is None:
        raise CheckpointError(unknown_family(folder, _KNOWN, sorted(known_families())))
    return reader


def acting_reader(folder: CheckpointFolder) -> ActingReader[Any, Any]:
    """Return the reader of a checkpoint that acts.

    Raises:
        CheckpointError: There is no ``config.json``, or it names no family that acts.
    """
    reader = _claiming(folder)
    if isinstance(reader, ActingReader):
        return reader
    raise _other(folder, reader, _ACTS, ActingReader, "saccade export-answering")


def answering_reader(folder: CheckpointFolder) -> AnsweringReader[Any, Any]:
    """Return the reader of a checkpoint that answers in text.

    Raises:
        CheckpointError: There is no ``config.json``, or it names no family that answers.
    """
    reader = _claiming(folder)
    if isinstance(reader, AnsweringReader):
        return reader
    raise _other(folder, reader, _ANSWERS, AnsweringReader, "saccade export")


def load_checkpoint(
    path: Path, *, mapped: bool = False, tokenizer: Path | None = None, head_step: str | None = None
) -> Checkpoint[ActingFamily]:
    """Read a checkpoint of any family that acts.

    Args:
        path: Folder of the checkpoint.
        mapped: Large weights may stay in the files, for what neither trains nor hurries.
        tokenizer: A ``tokenizer.json``, or a folder with one; None = the checkpoint's own.
        head_step: Training step of the heads, where the checkpoint has several; None = the only one.

    Raises:
        CheckpointError: A file, key or shape is missing, left over or wrong, or no family that acts is like it.
        InstructionError: The prompt's template has a token that the model does not have.
        StatisticsError: The statistics lack the data set, or are broken.
    """
    folder = CheckpointFolder(path, tokenizer, head_step)
    check_head_step(folder)
    checkpoint: Checkpoint[ActingFamily] = acting_reader(folder).load(folder)
    rows = checkpoint.model.decoder.config.vocab_size
    bounded = within_embedding(checkpoint.instruction, folder.tokenizer, rows)
    if not mapped:
        hold_weights(checkpoint.module)
    return replace(checkpoint, instruction=bounded)


def _claiming(folder: CheckpointFolder) -> AnyReader | None:
    """Return the first reader that claims a checkpoint; the one whose name it states is asked first.

    Raises:
        CheckpointError: The folder is a neighbour of what is read here.
    """
    refuse_neighbour(folder)
    stated = stated_name(folder)
    for name in sorted(known_families(), key=lambda name: name != stated):
        reader = family_reader(name)
        if reader.is_of(folder):
            message = other_class(folder, name, reader.classes)
            if message is not None:
                raise CheckpointError(message)
            return reader
    return None


def _other(
    folder: CheckpointFolder, found: AnyReader | None, what: str, kind: type[AnyReader], command: str
) -> CheckpointError:
    if found is None:
        return CheckpointError(unknown_family(folder, what, tuple(_names(kind))))
    return CheckpointError(
        f"expected a checkpoint of {what} ({', '.join(_names(kind))}), found {found.name!r}; `{command}` takes it."
    )


def _names(kind: type[AnyReader]) -> Iterator[str]:
    return (name for name in known_families() if isinstance(family_reader(name), kind))
