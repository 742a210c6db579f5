"""Quantised checkpoints, by every sign that tools leave."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.neighbours.quantised import quantised


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "quantization_config: gptq, 4 bits"),
        ({"quantization_config": {"load_in_8bit": True}}, "quantization_config: bitsandbytes, 8 bits"),
        ({"quantization_config": {"bnb_4bit_quant_type": "nf4"}}, "quantization_config: bitsandbytes"),
        ({"quantization_config": {"quant_method": "compressed-tensors"}}, "compressed-tensors"),
        ({"compression_config": {"format": "pack"}}, "compression_config: a method without a name"),
        ({"quantization": {"group_size": 64, "bits": 4}}, "quantization: MLX, 4 bits"),
        ({"text_config": {"quantization_config": {"quant_method": "fp8"}}}, "text_config: quantization_config: fp8"),
    ],
)  # fmt: skip
def test_the_configuration_says_it(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(settings))
    found = quantised(CheckpointFolder(tmp_path))
    assert found is not None and f"{said})" in found and "before quantisation" in found


@pytest.mark.parametrize(
    "name", ["quantize_config.json", "quant_config.json", "hf_quant_config.json", "q4.gguf"]
)
def test_a_file_says_it(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{}")
    assert name in (quantised(CheckpointFolder(tmp_path)) or "")


def test_no_quantisation_is_none(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": None, "text_config": 3}))
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "q4.gguf").write_bytes(b"")  # beside the weights that it was made of
    assert quantised(CheckpointFolder(tmp_path)) is None
