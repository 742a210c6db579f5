"""Statistics of lerobot's processors: the formulas, and errors that name what is missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.lerobot_statistics import read_relative, read_statistics
from saccade.proto.errors import CheckpointError
from saccade.proto.statistics import Statistics

STATE = {
    "mean": [1.0, -2.0],
    "std": [0.5, 4.0],
    "min": [-4.0, 0.0],
    "q01": [-2.0, 1.0],
    "q10": [-1.0, 2.0],
    "q90": [3.0, 4.0],
    "q99": [6.0, 5.0],
    "max": [8.0, 6.0],
}
ACTION = {name: [*vector, vector[0] + 1] for name, vector in STATE.items()}
PRE = "policy_preprocessor_step_5_normalizer_processor.safetensors"
POST = "policy_postprocessor_step_0_unnormalizer_processor.safetensors"


def written(
    folder: Path, state: dict[str, Any], action: dict[str, Any], mode: str = "MEAN_STD", **changes: Any
) -> Path:
    """Write processors as lerobot 0.6.1 does, other steps around the one that counts."""
    vectors = {
        **{f"observation.state.{name}": np.array(vector, np.float32) for name, vector in state.items()},
        **{f"action.{name}": np.array(vector, np.float32) for name, vector in action.items()},
    }
    for processor, step, file in (
        ("policy_preprocessor", "normalizer_processor", PRE),
        ("policy_postprocessor", "unnormalizer_processor", POST),
    ):
        save_file(vectors, folder / file)
        entry = {
            "registry_name": step,
            "config": {"eps": 1e-8, "norm_map": {"STATE": mode, "ACTION": mode, "VISUAL": "IDENTITY"}},
            "state_file": file,
            **changes,
        }
        steps = [{"registry_name": "rename_observations_processor", "config": {}}, entry]
        (folder / f"{processor}.json").write_text(json.dumps({"name": processor, "steps": steps}))
    return folder


def row(*numbers: float) -> NDArray[np.float32]:
    return np.array(numbers, np.float32)


def test_mean_and_std(tmp_path: Path) -> None:
    found = read_statistics(CheckpointFolder(written(tmp_path, STATE, ACTION)), state_dim=2, action_dim=3)
    np.testing.assert_allclose(found.proprio.normalise(row(2.0, -2.0)), [2.0, 0.0], rtol=1e-6)
    np.testing.assert_allclose(found.action.unnormalise(row(2.0, 0.5, -1.0)), [2.0, 0.0, 0.5], rtol=1e-6)


@pytest.mark.parametrize(
    ("mode", "low", "high"),
    [("MIN_MAX", "min", "max"), ("QUANTILES", "q01", "q99"), ("QUANTILE10", "q10", "q90")],
)
def test_ends_of_a_range_become_minus_one_and_one(tmp_path: Path, mode: str, low: str, high: str) -> None:
    found = read_statistics(
        CheckpointFolder(written(tmp_path, STATE, ACTION, mode)), state_dim=2, action_dim=3
    )
    for scale, vectors in ((found.proprio, STATE), (found.action, ACTION)):
        ends = np.array([vectors[low], vectors[high]], np.float32)
        beyond = ends[1] + (ends[1] - ends[0])
        units = np.stack([-np.ones(ends.shape[1]), np.ones(ends.shape[1]), 3 * np.ones(ends.shape[1])])
        np.testing.assert_allclose(scale.normalise(np.vstack([ends, beyond])), units, rtol=1e-6)
        np.testing.assert_allclose(
            scale.unnormalise(units.astype(np.float32)), np.vstack([ends, beyond]), rtol=1e-6
        )
        assert scale.normalise(ends).dtype == scale.unnormalise(ends).dtype == np.float32


def test_what_is_not_normalised_needs_no_vectors(tmp_path: Path) -> None:
    folder = CheckpointFolder(written(tmp_path, {}, {}, "IDENTITY", state_file=None))
    found = read_statistics(folder, state_dim=2, action_dim=3)
    numbers = row(-2.5, 1e4, 0.1)
    for scale in (found.proprio, found.action):
        given = numbers[: 2 if scale is found.proprio else 3]
        assert scale.normalise(given).tolist() == scale.unnormalise(given).tolist() == given.tolist()
    again = Statistics.from_json(found.to_json("a"), "a", "a bundle", action_dim=3, proprio_dim=2)
    assert again.action.unnormalise(numbers).tolist() == numbers.tolist()


@pytest.mark.parametrize("name", ["relative_actions_processor", "delta_actions_processor"])
def test_relative_actions_are_found_under_either_name(tmp_path: Path, name: str) -> None:
    config = {"enabled": True, "exclude_joints": ["grip"], "action_names": ["x", "gripper"]}
    steps = [{"registry_name": name, "config": config}]
    (tmp_path / "policy_preprocessor.json").write_text(json.dumps({"steps": steps}))
    after = {"registry_name": "absolute_actions_processor", "config": {"enabled": True}}
    (tmp_path / "policy_postprocessor.json").write_text(json.dumps({"steps": [after]}))
    assert read_relative(CheckpointFolder(tmp_path), 3) == (True, False, True)


@pytest.mark.parametrize("after", [[], [{"registry_name": "absolute_actions_processor", "config": {}}]])
def test_relative_actions_that_nothing_makes_absolute_are_refused(
    tmp_path: Path, after: list[dict[str, Any]]
) -> None:
    before = {"registry_name": "relative_actions_processor", "config": {"enabled": True}}
    (tmp_path / "policy_preprocessor.json").write_text(json.dumps({"steps": [before]}))
    (tmp_path / "policy_postprocessor.json").write_text(json.dumps({"steps": after}))
    with pytest.raises(CheckpointError, match="expected absolute_actions_processor, enabled"):
        read_relative(CheckpointFolder(tmp_path), 3)


def test_what_never_changed_does_not_divide_by_zero(tmp_path: Path) -> None:
    still = {**STATE, "std": [0.0, 1.0]}
    found = read_statistics(
        CheckpointFolder(written(tmp_path, still, ACTION)), state_dim=2, action_dim=3
    ).proprio
    assert found.normalise(row(1.0, -2.0)).tolist() == [0.0, 0.0]
    assert found.unnormalise(row(50.0, 0.0)).tolist() == [1.0, -2.0]
    still = {**STATE, "q99": STATE["q01"]}
    found = read_statistics(
        CheckpointFolder(written(tmp_path, still, ACTION, "QUANTILES")), state_dim=2, action_dim=3
    ).proprio
    assert found.normalise(row(-2.0, 1.0)).tolist() == [-1.0, -1.0]
    np.testing.assert_allclose(found.unnormalise(row(1.0, -1.0)), [-2.0, 1.0], atol=1e-7)


@pytest.mark.parametrize(
    ("state", "mode", "message"),
    [
        ({"mean": [0, 0]}, "MEAN_STD", "expected observation.state.mean and observation.state.std, found missing: "
         "observation.state.std;"),
        (STATE, "HALVES", "norm_map: STATE: expected one of IDENTITY, MEAN_STD, .* QUANTILE10, found 'HALVES'"),
        ({**STATE, "std": [1.0]}, "MEAN_STD", r"observation.state.std: expected 2 numbers, found shape \[1\]"),
        ({**STATE, "mean": [np.nan, 0]}, "MEAN_STD", r"observation.state.mean: expected finite numbers, found \[nan"),
        ({**STATE, "std": [-1.0, 1.0]}, "MEAN_STD", r"observation.state.std: expected at least 0.0, found \[-1.0"),
        ({**STATE, "q99": [-3.0, 5.0]}, "QUANTILES", r"state.q99: expected at least \[-2.0, 1.0\], found \[-3.0"),
    ],
)  # fmt: skip
def test_what_is_missing_or_broken_is_named(
    tmp_path: Path, state: dict[str, Any], mode: str, message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_statistics(CheckpointFolder(written(tmp_path, state, ACTION, mode)), state_dim=2, action_dim=3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"registry_name": "other"}, "expected one step 'normalizer_processor', found 0 of 2 steps"),
        ({"state_file": "../stolen.safetensors"}, "expected a file beside it, found '../stolen.safetensors'"),
        ({"state_file": "none.safetensors"}, "expected a file beside it, found 'none.safetensors'"),
        ({"state_file": None}, "expected a state_file .*, found none: a base model; fine-tune it"),
        ({"config": {"norm_map": {}}}, "norm_map: expected 'STATE', found none"),
        ({"config": {}}, "expected the object 'norm_map', found none"),
        ({"config": {"norm_map": {"VISUAL": "MEAN_STD"}}}, "VISUAL: expected 'IDENTITY', found 'MEAN_STD'"),
    ],
)
def test_a_step_that_says_too_little_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_statistics(
            CheckpointFolder(written(tmp_path, STATE, ACTION, **changes)), state_dim=2, action_dim=3
        )


def test_broken_files_are_refused(tmp_path: Path) -> None:
    folder = written(tmp_path, STATE, ACTION)
    (folder / PRE).write_bytes(b"no")
    with pytest.raises(CheckpointError, match=f"{PRE}: expected a whole safetensors file"):
        read_statistics(CheckpointFolder(folder), state_dim=2, action_dim=3)
    (folder / "policy_preprocessor.json").write_text('{"steps": {}}')
    with pytest.raises(CheckpointError, match="expected the list 'steps', found dict"):
        read_statistics(CheckpointFolder(folder), state_dim=2, action_dim=3)
    (folder / "policy_preprocessor.json").unlink()
    with pytest.raises(CheckpointError, match=r"expected policy_preprocessor.json .* found none; copy it"):
        read_statistics(CheckpointFolder(folder), state_dim=2, action_dim=3)
