"""Checkpoints that lerobot's own classes write, in an environment of their own: tests/lerobot/README.md."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from saccade.export.families.pi import config as pi_checkpoint
from saccade.export.loading.vision_tower import SIGLIP

ROOT = Path(__file__).parents[3]
PYTHON = ROOT / ".venv-lerobot/bin/python"
SCRIPT = ROOT / "tests/lerobot/write_reference.py"


def interpreter(what: str) -> Path:
    """The interpreter that has lerobot; where it is not, the test fails, where it cannot be, the test is skipped."""
    if not PYTHON.is_file():
        # A check that did not run is a failure; only where lerobot cannot be had is it none.
        (pytest.fail if sys.version_info >= (3, 11) else pytest.skip)(
            f"NOT COMPARED WITH lerobot: no .venv-lerobot, see tests/lerobot/README.md ({what})."
        )
    return PYTHON


def write(policy: str, folder: Path) -> Path:
    """Write the tiny checkpoints of a policy into a folder."""
    python = interpreter(policy)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    found = subprocess.run(
        [python, SCRIPT, policy, folder], env=environment, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr[-3000:]
    return folder


def oracle(folder: Path) -> dict[str, Tensor]:
    """Return what the class was given and what it computed."""
    with np.load(folder / "oracle.npz", allow_pickle=False) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def use_sizes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read a tiny model: a file names the variant, and its sizes are in code, there as here."""
    stored = json.loads((folder / "dimensions.json").read_text())
    for name in ("gemma_2b", "gemma_300m"):
        sizes = stored[name]
        monkeypatch.setitem(
            pi_checkpoint.GEMMA_VARIANTS,
            name,
            {
                "hidden_size": sizes["width"],
                "intermediate_size": sizes["mlp_dim"],
                "num_hidden_layers": sizes["depth"],
                "num_attention_heads": sizes["num_heads"],
                "num_key_value_heads": sizes["num_kv_heads"],
                "head_dim": sizes["head_dim"],
                "vocab_size": 257152,
            },
        )
    monkeypatch.setattr(pi_checkpoint, "TOWER", {"model_type": SIGLIP, **stored["vision"]})
