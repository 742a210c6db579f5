"""A tiny checkpoint of every family, written by the real class where PyPI has one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from saccade.export.families.pi import config as pi_checkpoint
from tests.export.families import pi_scenes, prismatic_reference
from tests.export.families.llava import test_llava
from tests.export.families.llava import test_next as test_llava_next
from tests.export.families.llava import test_onevision as test_llava_onevision
from tests.export.families.openvla_oft import test_published as test_openvla_oft_published
from tests.export.families.pi import test_pi0
from tests.export.families.pi05_reference import Pi05Reference
from tests.export.families.published import save
from tests.export.families.qwen_vl import test_qwen2_5 as test_qwen2_5_vl
from tests.export.families.qwen_vl import test_qwen3 as test_qwen3_vl
from tests.export.samples import write_tiny_checkpoint


def _llava(folder: Path) -> Any:
    model = test_llava.reference()
    save(model, folder, test_llava.PROCESSOR)
    return model


def _llava_next(folder: Path) -> Any:
    model = test_llava_next.reference(test_llava_next.VICUNA)
    save(model, folder, test_llava_next.PROCESSOR)
    return model


def _llava_onevision(folder: Path) -> Any:
    model = test_llava_onevision.reference(most=1)
    save(model, folder, test_llava_onevision.PROCESSOR)
    return model


def _qwen2_5_vl(folder: Path) -> Any:
    model = test_qwen2_5_vl.reference()
    save(model, folder, test_qwen2_5_vl.PROCESSOR)
    return model


def _qwen3_vl(folder: Path) -> Any:
    model = test_qwen3_vl.reference()
    test_qwen3_vl.write(model, folder)
    return model


def _openvla(folder: Path) -> Any:
    model = prismatic_reference.Reference()
    prismatic_reference.write(model, folder, {"bridge": prismatic_reference.statistics(7, 7)})
    return model


def _oft_published(folder: Path) -> Any:
    model = test_openvla_oft_published.ReferenceOft(7, 8)
    test_openvla_oft_published.write_oft(model, folder, (7, 8, 8))
    return model


def _oft(folder: Path) -> None:
    write_tiny_checkpoint(folder)


def _pi0(folder: Path) -> Any:
    model = test_pi0.reference()
    test_pi0.save(model, folder)
    return model


def _pi05(folder: Path) -> None:
    Pi05Reference(kv_heads=1, steps=3).save(folder)


def _smolvla(folder: Path) -> None:
    """Configuration alone; lerobot's own checkpoint is inspected in the test of the family."""
    folder.mkdir()
    camera, vector = {"type": "VISUAL", "shape": [3, 64, 64]}, {"type": "STATE", "shape": [5]}
    features = {"observation.images.a": camera, "observation.images.b": camera, "observation.state": vector}
    policy = {
        "type": "smolvla",
        "input_features": features,
        "output_features": {"action": {"type": "ACTION", "shape": [4]}},
        "chunk_size": 5,
        "max_state_dim": 8,
        "max_action_dim": 6,
        "resize_imgs_with_padding": [32, 32],
        "tokenizer_max_length": 7,
        "num_steps": 3,
        "num_vlm_layers": 4,
    }
    text = {"model_type": "llama", "hidden_size": 48, "intermediate_size": 40, "num_hidden_layers": 6}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 96}
    tower = {"model_type": "smolvlm_vision", "hidden_size": 24, "intermediate_size": 40, "image_size": 32}
    blocks = {"num_hidden_layers": 3, "num_attention_heads": 2, "patch_size": 8}
    backbone = {
        "model_type": "smolvlm",
        "scale_factor": 2,
        "text_config": {**text, **heads},
        "vision_config": {**tower, **blocks},
    }
    (folder / "config.json").write_text(json.dumps(policy))
    (folder / "backbone_config.json").write_text(json.dumps(backbone))


WRITERS: dict[str, Callable[[Path], Any]] = {
    "llava": _llava,
    "llava_next": _llava_next,
    "llava_onevision": _llava_onevision,
    "openvla": _openvla,
    "openvla_oft": _oft,
    "openvla_oft, published": _oft_published,
    "pi0": _pi0,
    "pi05": _pi05,
    "qwen2_5_vl": _qwen2_5_vl,
    "qwen3_vl": _qwen3_vl,
    "smolvla": _smolvla,
}
"""Family to what writes a checkpoint into a folder and returns the real model, if there is one."""


def know_tiny_variants(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let lerobot's names of variants mean tiny models: its files do not say sizes."""
    monkeypatch.setitem(pi_checkpoint.GEMMA_VARIANTS, "gemma_2b", pi_scenes.vlm(1)["text_config"])
    monkeypatch.setitem(pi_checkpoint.GEMMA_VARIANTS, "gemma_300m", pi_scenes.expert(1))
    monkeypatch.setattr(pi_checkpoint, "TOWER", pi_scenes.TOWER)


def edit(folder: Path, name: str, **changes: Any) -> None:
    """Change fields of a JSON file; None removes one."""
    value = json.loads((folder / name).read_text())
    value.update(changes)
    kept = {key: item for key, item in value.items() if item is not None}
    (folder / name).write_text(json.dumps(kept))
