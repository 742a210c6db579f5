"""The result of a search: options for one profile, and the receipt of how they were found."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from saccade.proto.errors import ExportError


@dataclass(frozen=True)
class Tuned:
    """Options that a search found.

    Args:
        policy: Registry name.
        keep_ratio: Of the profile they were found for.
        options: All options of the policy.
        objective: What was measured.
        value: Of these options.
        default_value: Of the options that the search started from.
        trials: Evaluated, those that could not be built included.
        refused: Trials whose options the policy or the model refused.
        frames: Compared.
        frames_sha256: Of the recording.
        checkpoint: Name of the embodiment.
        checkpoint_sha256: Of its weights.
        seed: Of the sampler.
        versions: Packages that had a part in it.
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
        """Write the result as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def read_tuned(path: Path) -> Tuned:
    """Read a result.

    Raises:
        ExportError: Not such a file.
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
