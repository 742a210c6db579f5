"""π0.5 against lerobot's own class, from the files that it writes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from saccade.export.families.deployment import Deployment
from saccade.export.families.pi.pi05 import build, key_rules, read_config
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.lerobot_statistics import read_statistics
from saccade.export.loading.shards import StoredWeights
from saccade.export.loading.weights import load_weights
from saccade.proto.scales import RangeScale
from tests.export.families.lerobot_reference import oracle, use_sizes, write

VIEWS, TEXT = 2, 9


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of lerobot's own class."""
    return write("pi05", tmp_path_factory.mktemp("lerobot") / "pi05")


def test_actions_equal_the_reference(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_sizes(written, monkeypatch)
    config = read_config(CheckpointFolder(written), Deployment(views=VIEWS, max_text_tokens=TEXT))
    model = build(config)
    load_weights(model, StoredWeights(written), key_rules(config))
    model.fold()
    model.eval()
    given = oracle(written)
    inputs = model.sequence_inputs(given["lengths"], torch.ones(3, VIEWS, dtype=torch.bool))
    with torch.no_grad():
        actions = model(given["images"], None, given["token_ids"], *inputs, given["noise"])
    dims = given["actions"].shape[-1]
    assert (actions - given["noise"]).abs().max() > 0.1
    torch.testing.assert_close(actions[..., :dims], given["actions"], atol=1e-4, rtol=1e-4)


def test_units_are_those_of_the_processors(written: Path) -> None:
    given = oracle(written)
    found = read_statistics(CheckpointFolder(written), state_dim=5, action_dim=4)
    assert isinstance(found.proprio, RangeScale) and not found.proprio.clips
    state = torch.from_numpy(found.proprio.normalise(given["raw_state"].numpy()))
    torch.testing.assert_close(state, given["state"], atol=1e-6, rtol=1e-6)
    physical = torch.from_numpy(found.action.unnormalise(given["actions"].numpy()))
    torch.testing.assert_close(physical, given["physical_actions"], atol=1e-5, rtol=1e-6)
