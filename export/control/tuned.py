"""The result of a search: options for one profile, and the receipt of how they were found."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from saccade.proto.errors import ExportError


@dataclass(frozen=True)
class Tuned:
    """Options that a search found.

    Args:
        policy: Registry name of the policy.
        keep_ratio: Keep ratio of the profile that the options were found for.
        options: All options of the policy.
        objective: Name of what was measured, a key of ``OBJECTIVES``.
        value: Value of the objective with these options.
        default_value: Value of the objective with the options that the search started from.
        trials: Number of trials, those that could not be built included.
        refused: Number of trials whose options the policy or the model refused.
        frames: Number of frames compared.
        frames_sha256: SHA-256 of the recording.
        checkpoint: Name in the checkpoint's embodiment.
        checkpoint_sha256: SHA-256 of the checkpoint's weights.
        seed: Seed of the sampler.
        versions: Versions of the packages that had a part in the search, by name.
    """

    policy: str
    keep_ratio: float
    options: dict[str, Any]
    objective: str
    value: float
    default_value: float
    trials: int
    refused: int
    frames: int
    frames_sha256: str
    checkpoint: str
    checkpoint_sha256: str
    seed: int
    versions: dict[str, str]

    def write(self, path: Path) -> None:
        """Write the result as JSON, whole or not at all: several workers may end at once."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        partial.write_text(json.dumps(asdict(self), indent=2, allow_nan=False) + "\n", encoding="utf-8")
        os.replace(partial, path)


def read_tuned(path: Path) -> Tuned:
    """Read the result of a search.

    Raises:
        ExportError: The file is no result of ``saccade tune``.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        tuned = Tuned(**content)
    except (OSError, ValueError, TypeError) as error:
        raise ExportError(f"{path.name}: expected the result of `saccade tune`, found: {error}.") from error
    if not isinstance(tuned.options, dict) or not 0 < tuned.keep_ratio < 1:
        raise ExportError(
            f"{path.name}: expected options and a keep ratio between 0 and 1, found {tuned.options!r} and "
            f"{tuned.keep_ratio!r}."
        )
    return tuned
