"""OpenVLA against a reference composed of transformers' classes, from files as they are published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from saccade.export.families.deployment import Deployment
from saccade.export.families.openvla.model import (
    OpenVla,
    build,
    key_rules,
    read_config,
)
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.prismatic import SPACE_ID
from saccade.export.loading.shards import StoredWeights
from saccade.export.loading.weights import load_weights
from saccade.proto.errors import CheckpointError
from tests.export.families.prismatic_reference import PATCHES, SIDE, Reference, statistics, write
from tests.export.families.published import pictures

BOS, TEXT = 1, 20
DEPLOYMENT = Deployment(max_text_tokens=TEXT)
BRIDGE = statistics(7, 7)


def ours(folder: Path, deployment: Deployment = DEPLOYMENT) -> OpenVla:
    config = read_config(CheckpointFolder(folder), deployment)
    model = build(config)
    load_weights(model, StoredWeights(folder), key_rules(config))
    return model.eval()


def rewrite(folder: Path, name: str, **changes: Any) -> Path:
    value = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**value, **changes}))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(Reference(), tmp_path_factory.mktemp("openvla") / "openvla", {"bridge": BRIDGE})


@pytest.mark.parametrize("fused", [True, False])
def test_states_and_logits_equal_the_reference(tmp_path: Path, *, fused: bool) -> None:
    theirs = Reference(fused=fused, seed=3)
    model = ours(write(theirs, tmp_path / "openvla", {"bridge": BRIDGE}))
    for seed, question in enumerate(
        ([11, 12, 13, SPACE_ID], [50, SPACE_ID], [3, 4, 5, 6, 7, 8, 9, SPACE_ID])
    ):
        image = pictures(1, SIDE, SIDE, seed)
        padded = torch.tensor([[*question, *[0] * (TEXT - len(question))]])
        lengths = torch.tensor([len(question)])
        with torch.no_grad():
            embedded = torch.cat(
                [theirs.embedded([BOS]), theirs.visual(image), theirs.embedded(question)], dim=1
            )
            expected = theirs.llama(inputs_embeds=embedded, output_hidden_states=True)
            visual = model.embed_visual(model.visual_tokens(torch.from_numpy(image)[None]))
            states = model.run(model.embed(visual, padded), model.sequence_inputs(lengths))
            valid = states[:, : embedded.shape[1]]
            torch.testing.assert_close(
                visual, theirs.visual(image), atol=2e-5, rtol=0
            )  # tanh GELU is 2e-4 off
            torch.testing.assert_close(valid, expected.hidden_states[-1], atol=1e-4, rtol=0)
            torch.testing.assert_close(model.logits(valid), expected.logits, atol=1e-4, rtol=0)


def test_a_batch_is_its_robots_one_by_one(folder: Path) -> None:
    model = ours(folder)
    images = torch.from_numpy(pictures(3, SIDE, SIDE))[:, None]
    ids, lengths = torch.randint(3, 900, (3, TEXT)), torch.tensor([2, 9, 5])
    with torch.no_grad():
        visual = model.embed_visual(model.visual_tokens(images))
        together = model.run(model.embed(visual, ids), model.sequence_inputs(lengths))
        for robot in range(3):
            one = slice(robot, robot + 1)
            alone = model.run(model.embed(visual[one], ids[one]), model.sequence_inputs(lengths[one]))
            valid = 1 + PATCHES + int(lengths[robot])
            torch.testing.assert_close(together[one, :valid], alone[:, :valid], atol=1e-5, rtol=1e-5)


def test_the_answer_has_the_dims_of_the_data_set_that_was_chosen(folder: Path, tmp_path: Path) -> None:
    both = {"bridge": BRIDGE, "fractal": statistics(5, 5)}
    two = write(Reference(), tmp_path / "two", both)
    with pytest.raises(
        CheckpointError, match=r"norm_stats: expected a choice .* bridge, fractal, found none"
    ):
        read_config(CheckpointFolder(two), DEPLOYMENT)
    chosen = Deployment(max_text_tokens=TEXT, statistics_key="fractal")
    assert read_config(CheckpointFolder(two), chosen).action_dim == 5
    (two / "dataset_statistics.json").write_text(json.dumps({"mine": statistics(3, 3)}))
    assert (
        read_config(CheckpointFolder(two), DEPLOYMENT).action_dim == 3
    )  # a fine-tuned checkpoint's own file wins as a whole
    with pytest.raises(
        CheckpointError, match=r"dataset_statistics\.json: .* data sets mine, found 'fractal'"
    ):
        read_config(CheckpointFolder(two), chosen)


@pytest.mark.parametrize(
    ("deployment", "message"),
    [
        (Deployment(views=2), r"expected 1 view with BOS \(1\) before it, found 2 views"),
        (Deployment(before=(1, 7)), r"found 1 views, \[1, 7\] before"),
    ],
)
def test_a_deployment_that_does_not_fit_is_refused(
    folder: Path, deployment: Deployment, message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_config(CheckpointFolder(folder), deployment)


def test_openvla_oft_is_not_read_as_openvla(folder: Path) -> None:
    head = folder / "action_head--5_checkpoint.pt"
    head.touch()
    try:
        with pytest.raises(CheckpointError, match="this is OpenVLA-OFT; read it as openvla_oft"):
            read_config(CheckpointFolder(folder), DEPLOYMENT)
    finally:
        head.unlink()
