"""Statistics of lerobot's checkpoints: what turns physical units into a policy's numbers and back.

They lie in the files of its processors: a JSON file lists steps, and the step that normalises names a safetensors file
with vectors such as ``observation.state.mean``. lerobot passes numbers on as they are where a vector is missing; here
that is an error.

Source:
    lerobot 0.6.1, ``NormalizerProcessorStep`` and ``UnnormalizerProcessorStep``.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.json_fields import JsonFields
from saccade.export.loading.lerobot_features import FINE_TUNE
from saccade.export.loading.lerobot_processors import (
    POSTPROCESSOR,
    PREPROCESSOR,
    processor_steps,
    warn_of_unknown_steps,
)
from saccade.export.loading.lfs_pointers import refuse_pointer
from saccade.export.loading.shards import has_weights, some
from saccade.proto.errors import CheckpointError
from saccade.proto.scales import MeanStdScale, RangeScale, Scale
from saccade.proto.statistics import Statistics

STATE, ACTION = "observation.state", "action"
_NORMALISER, _UNNORMALISER = "normalizer_processor", "unnormalizer_processor"
_RELATIVE, _ABSOLUTE = ("relative_actions_processor", "delta_actions_processor"), "absolute_actions_processor"
"""The step's name in lerobot 0.6.1, and in other releases."""
_BUFFER = re.compile(r"(^|\.)(normalize_inputs|normalize_targets|unnormalize_outputs)\.")
_ONLY = "normalize_observation_keys"
MEAN_STD, IDENTITY = "MEAN_STD", "IDENTITY"
RANGES = {"MIN_MAX": ("min", "max"), "QUANTILES": ("q01", "q99"), "QUANTILE10": ("q10", "q90")}
"""Modes that bring a range to -1..1, and the vectors they need."""


def read_statistics(folder: CheckpointFolder, *, state_dim: int, action_dim: int) -> Statistics:
    """Read what the processors of a checkpoint were saved with.

    Args:
        folder: The checkpoint whose statistics are read.
        state_dim: Numbers of the robot's state, not padded.
        action_dim: Numbers of an action, not padded.

    Raises:
        CheckpointError: A file, step or vector is missing, of the wrong length or not finite, or the numbers are
            normalised in a way that is not known here.
    """
    found = Statistics(
        proprio=_read(folder, PREPROCESSOR, _NORMALISER, "STATE", STATE, state_dim),
        action=_read(folder, POSTPROCESSOR, _UNNORMALISER, "ACTION", ACTION, action_dim),
    )
    warn_of_unknown_steps(folder)
    return found


def read_relative(folder: CheckpointFolder, action_dim: int) -> tuple[bool, ...]:
    """Return for each number of an action whether lerobot adds the robot's state to it; empty = to none.

    Raises:
        CheckpointError: A processor's file is missing or broken, or nothing adds what was taken away.
    """
    found = processor_steps(folder, PREPROCESSOR, *_RELATIVE)
    if not found or not _is_enabled(found[0]):
        return ()
    settings = found[0].child("config", {})
    if not any(map(_is_enabled, processor_steps(folder, POSTPROCESSOR, _ABSOLUTE))):
        raise CheckpointError(
            f"{POSTPROCESSOR}: expected {_ABSOLUTE}, enabled, since {PREPROCESSOR} takes the state off actions, found "
            "none; lerobot then gives them out as they are: enable it, or disable the other, in a copy of the file."
        )
    excluded = settings.items("exclude_joints", str) if settings.has("exclude_joints") else ()
    names = settings.items("action_names", str) if settings.has("action_names") else ()
    named = [name.lower() for name in names[:action_dim]] + [""] * (action_dim - len(names))
    return tuple(not any(part and part.lower() in name for part in excluded) for name in named)


def _is_enabled(step: JsonFields) -> bool:
    return step.child("config", {"enabled": False}).take("enabled", bool)


def _read(folder: CheckpointFolder, name: str, step: str, kind: str, vector: str, dim: int) -> Scale:
    """Read one vector's statistics from the step of a processor's file."""
    if not folder.has(name):
        raise CheckpointError(
            f"expected {name} in {folder.name}/, found none; {_where_statistics_are(folder)}"
        )
    fields = _find_step(folder, name, step)
    settings = fields.child("config", {"eps": 1e-8})
    modes = settings.child("norm_map")
    modes.expect("VISUAL", (IDENTITY,))  # the graphs normalise pictures as the model's class does
    if settings.has(_ONLY) and vector == STATE and STATE not in settings.items(_ONLY, str):
        raise CheckpointError(
            f"{name}: {step}: {_ONLY}: expected {STATE} among them, or none, found a list without it; lerobot then "
            "passes the state on as it is: write IDENTITY for STATE into a copy of the file."
        )
    mode = modes.take(kind, str)
    if mode == IDENTITY:
        return MeanStdScale(np.zeros(dim, np.float32), np.ones(dim, np.float32), 0.0)
    if mode != MEAN_STD and mode not in RANGES:
        raise CheckpointError(
            f"{name}: {step}: norm_map: {kind}: expected one of {', '.join((IDENTITY, MEAN_STD, *RANGES))}, found "
            f"{mode!r}."
        )
    state_file = _state_file(folder, fields, f"{name}: {step}")
    wanted = ("mean", "std") if mode == MEAN_STD else RANGES[mode]
    first, second = _vectors(folder / state_file, [f"{vector}.{part}" for part in wanted], dim)
    eps = settings.take("eps", float)
    if mode == MEAN_STD:
        _expect_ordered(state_file, f"{vector}.std", 0.0, second)
        return MeanStdScale(first, second, eps)
    _expect_ordered(state_file, f"{vector}.{wanted[1]}", first, second)
    return RangeScale(first, second, np.ones(dim, bool), clips=False, eps=eps)


def _find_step(folder: CheckpointFolder, name: str, step: str) -> JsonFields:
    """Return the one step of a kind."""
    found = processor_steps(folder, name, step)
    if len(found) != 1:
        raise CheckpointError(
            f"{name}: expected one step {step!r}, found {len(found)} of {len(folder.read(name)['steps'])} steps."
        )
    return found[0]


def _state_file(folder: CheckpointFolder, step: JsonFields, where: str) -> str:
    """Return the name of the file that a step's vectors are in."""
    if not step.has("state_file"):
        raise CheckpointError(
            f"{where}: expected a state_file with the statistics of a robot, found none: a base model; {FINE_TUNE}."
        )
    found = step.take("state_file", str)
    if Path(found).name != found or not folder.has(found):
        raise CheckpointError(
            f"{where}: state_file: expected a file beside it, found {found!r}; copy it from the published checkpoint."
        )
    return found


def _vectors(path: Path, names: list[str], dim: int) -> list[NDArray[np.float32]]:
    """Read vectors by name, float32 ``(dim,)`` each."""
    refuse_pointer(path)
    try:
        with safe_open(path, framework="np") as file:
            stored = set(file.keys())
            absent = [name for name in names if name not in stored]
            if absent:
                raise CheckpointError(
                    f"{path.name}: expected {' and '.join(names)}, found {some('missing', absent)}; "
                    f"{_other_statistics(stored, absent[0])}"
                )
            return [_vector(file.get_tensor(name), f"{path.name}: {name}", dim) for name in names]
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path.name}: expected a whole safetensors file, found: {error}; copy it again."
        ) from error


def _other_statistics(stored: Collection[str], wanted: str) -> str:
    """Return what to do where a vector is missing: base models have those of data sets, under the data set's name."""
    sets = sorted({name.partition(".")[0] for name in stored if name.endswith(f".{wanted}")})
    if not sets:
        return "save the processors with the data set's statistics."
    return (
        f"there are those of the data sets {', '.join(sets)}, which lerobot itself does not use: a base model; "
        f"{FINE_TUNE}."
    )


def _where_statistics_are(folder: CheckpointFolder) -> str:
    """Return what to do where a processor's file is missing: early checkpoints had buffers among the weights."""
    weights = folder.weights if has_weights(folder.path) else None
    buffers = [name for name in weights or () if _BUFFER.search(name)]
    if weights is None or not buffers:
        return "copy it, and the safetensors that it names, from the checkpoint that config.json is from."
    if any(not bool(weights.read(name).isfinite().all()) for name in buffers):
        return f"its statistics, among the weights, are not finite: they were never set; a base model, {FINE_TUNE}."
    return (
        "the statistics are among the weights, as in lerobot's early checkpoints: bring it up to date with its "
        "migrate_policy_normalization."
    )


def _vector(value: NDArray[Any], where: str, dim: int) -> NDArray[np.float32]:
    if value.shape != (dim,):
        raise CheckpointError(f"{where}: expected {dim} numbers, found shape {list(value.shape)}.")
    vector = value.astype(np.float32)
    if not np.isfinite(vector).all():
        raise CheckpointError(f"{where}: expected finite numbers, found {vector.tolist()}.")
    return vector


def _expect_ordered(
    file: str, what: str, low: NDArray[np.float32] | float, high: NDArray[np.float32]
) -> None:
    if (high < low).any():
        raise CheckpointError(
            f"{file}: {what}: expected at least {np.asarray(low).tolist()}, found {high.tolist()}."
        )
