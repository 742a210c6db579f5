"""Which published class each family is compared with, and what has to be installed for it."""

from __future__ import annotations

from dataclasses import dataclass

from saccade.export.families.reader import stated_name
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.proto.errors import ExportError


@dataclass(frozen=True)
class Published:
    """A class that computes what a family was published as.

    Args:
        program: Module of :mod:`saccade.export.verification.reference` that runs it.
        libraries: Distributions whose versions the receipt names.
        install: What ``pip install`` takes.
    """

    program: str
    libraries: tuple[str, ...]
    install: str


_LEROBOT = ("lerobot", "transformers", "torch")
_TRANSFORMERS = Published(
    "answering_models", ("transformers", "torch", "torchvision", "pillow"), "transformers torchvision pillow"
)
_PRISMATIC = Published("prismatic_models", ("timm", "transformers", "torch"), "timm transformers torchvision")
PUBLISHED = {
    "smolvla": Published("lerobot_policies", _LEROBOT, "'lerobot[smolvla]'"),
    "pi0": Published("lerobot_policies", _LEROBOT, "'lerobot[pi]'"),
    "pi05": Published("lerobot_policies", _LEROBOT, "'lerobot[pi]'"),
    "openvla": _PRISMATIC,
    "openvla_oft": _PRISMATIC,
    "llava": _TRANSFORMERS,
    "llava_next": _TRANSFORMERS,
    "llava_onevision": _TRANSFORMERS,
    "qwen2_5_vl": _TRANSFORMERS,
    "qwen3_vl": _TRANSFORMERS,
}
"""Family to its reference."""
_NONE = {
    "llava_qwen": "its class is no part of transformers, only of LLaVA-NeXT's repository; a checkpoint converted to "
    "LLaVA-OneVision's class can be verified",
}


def published_class(folder: CheckpointFolder, family: str) -> Published:
    """Return what a checkpoint is compared with.

    Args:
        folder: The checkpoint.
        family: Name of its family.

    Raises:
        ExportError: No library has a class that reads this checkpoint.
    """
    reason = _NONE.get(family) or _unread(folder, family)
    found = PUBLISHED.get(family)
    if reason or found is None:
        raise ExportError(
            f"{folder.name}: expected a checkpoint that a class of transformers or lerobot reads, found {family!r}: "
            f"{reason or 'which is registered by another package'}; there is nothing to compare it with."
        )
    return found


def _unread(folder: CheckpointFolder, family: str) -> str:
    """Say why the family's library does not read this layout of it; empty = it does."""
    if family == "openvla_oft" and stated_name(folder) == family:
        return "Saccade's own layout, which no other class reads"
    if family in {"smolvla", "pi0", "pi05"} and "type" not in folder.config:
        return "a layout that lerobot does not read; its own conversion of the same weights can be verified"
    return ""
