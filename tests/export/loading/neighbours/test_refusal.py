"""A folder is asked for its kind before anything in it is read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.neighbours.refusal import refuse_neighbour
from saccade.proto.errors import CheckpointError


def test_an_adapter_of_a_quantised_model_is_an_adapter_first(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": {"quant_method": "awq"}}))
    with pytest.raises(CheckpointError, match="quantised ones"):
        refuse_neighbour(CheckpointFolder(tmp_path))
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="an adapter alone"):
        refuse_neighbour(CheckpointFolder(tmp_path))


def test_what_is_no_checkpoint_at_all_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"expected config\.json in .*, found none; give the folder"):
        refuse_neighbour(CheckpointFolder(tmp_path))
