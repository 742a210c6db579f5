"""OpenVLA and OpenVLA-OFT as published, with timm's own towers and transformers' ``LlamaForCausalLM``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from saccade.export.families.deployment import Deployment
from saccade.export.families.embodiment import write_embodiment
from saccade.export.families.openvla.model import build, key_rules, read_config
from saccade.export.families.openvla_oft import checkpoint as openvla_oft
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.shards import StoredWeights
from saccade.export.loading.weights import load_weights
from tests.export.families.lerobot_reference import oracle
from tests.export.families.lerobot_reference import write as write_reference
from tests.export.families.openvla_oft.test_published import LIBERO, describe, embodiment

QUESTIONS = range(3)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reference("prismatic", tmp_path_factory.mktemp("prismatic"))


def padded(ids: Tensor, length: int) -> Tensor:
    return torch.nn.functional.pad(ids, (0, length - len(ids)))[None]


def test_openvla_equals_its_composed_reference(written: Path) -> None:
    folder, text = written / "openvla", 20
    theirs = oracle(folder)
    config = read_config(CheckpointFolder(folder), Deployment(max_text_tokens=text))
    model = build(config)
    load_weights(model, StoredWeights(folder), key_rules(config))
    model.eval()
    for number in QUESTIONS:
        ids, image = theirs[f"ids_{number}"], theirs["images"][number]
        with torch.no_grad():
            visual = model.embed_visual(model.visual_tokens(image[None, None]))
            states = model.run(
                model.embed(visual, padded(ids, text)), model.sequence_inputs(torch.tensor([len(ids)]))
            )
            states = states[:, : theirs[f"states_{number}"].shape[1]]
            logits = model.logits(states)
        torch.testing.assert_close(visual, theirs[f"visual_{number}"], atol=2e-5, rtol=0)
        torch.testing.assert_close(states, theirs[f"states_{number}"], atol=1e-4, rtol=0)
        torch.testing.assert_close(logits, theirs[f"logits_{number}"], atol=1e-4, rtol=0)


def test_openvla_oft_equals_its_composed_reference(written: Path) -> None:
    folder = describe(written / "openvla_oft", LIBERO)
    write_embodiment(replace(embodiment(*LIBERO), crop=1.0), folder)
    theirs, model = oracle(folder), openvla_oft.load(CheckpointFolder(folder)).model
    for number in QUESTIONS:
        ids = theirs[f"ids_{number}"]
        with torch.no_grad():
            found = model(
                theirs[f"images_{number}"][None],
                theirs[f"proprio_{number}"],
                padded(ids, model.config.max_text_tokens),
                *model.sequence_inputs(torch.tensor([len(ids)])),
            )
        torch.testing.assert_close(found, theirs[f"actions_{number}"], atol=1e-5, rtol=0)
