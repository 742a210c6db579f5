"""OpenVLA-OFT as published, against a reference composed of transformers' classes, from a folder to its actions."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from saccade.export.families.deployment import Deployment
from saccade.export.families.embodiment import Embodiment, write_embodiment
from saccade.export.families.openvla_oft import checkpoint as openvla_oft
from saccade.export.families.openvla_oft.published import read_published
from saccade.export.families.registry import load_checkpoint
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.proto.errors import CheckpointError, StatisticsError
from saccade.proto.manifest import ActionSpec, LimitsSpec, VectorSpec
from saccade.proto.statistics import Statistics
from tests.export.centre_crop import centre_crop
from tests.export.families.oft_reference import ReferenceOft, save_head, write_published
from tests.export.families.prismatic_reference import SIDE, statistics
from tests.export.families.published import pictures
from tests.export.loading.payload import Payload

VIEWS, KEY = ("scene", "wrist"), "libero"
LIBERO, ALOHA = (7, 8, 8), (14, 14, 25)
"""Dims of action and proprioception, and the chunk."""


def write_tokenizer(folder: Path) -> None:
    """Words, and the lone space where Llama has it: at the end of a text."""
    unknown, space = "<unk>", "\N{LOWER ONE EIGHTH BLOCK}"
    tokenizer = Tokenizer(
        models.WordLevel({unknown: 0, "in:": 5, "out:": 6, space: 29871}, unk_token=unknown)
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Lowercase(), normalizers.Replace(Regex(" $"), f" {space}")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))


def embodiment(action_dim: int, proprio_dim: int, chunk: int) -> Embodiment:
    action, proprio = (tuple(f"x{i}" for i in range(dim)) for dim in (action_dim, proprio_dim))
    return Embodiment(
        name="tiny",
        license="MIT",
        views=VIEWS,
        proprio=VectorSpec(proprio, ("m",) * proprio_dim),
        action=ActionSpec(action, ("m",) * action_dim, chunk, 20.0, "delta_ee"),
        limits=LimitsSpec((-9.0,) * action_dim, (9.0,) * action_dim, (9.0,) * action_dim),
        template="In: {instruction} Out: ",
        statistics_key=KEY,
    )


def write_oft(theirs: ReferenceOft, folder: Path, dims: tuple[int, int, int]) -> Path:
    """Write the published folder, and what we ask for beside it."""
    write_published(theirs, folder, {KEY: statistics(*dims[:2])})
    return describe(folder, dims)


def describe(folder: Path, dims: tuple[int, int, int]) -> Path:
    """Write what we ask for beside a published folder."""
    write_tokenizer(folder)
    write_embodiment(embodiment(*dims), folder)
    return folder


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_oft(ReferenceOft(7, 8), tmp_path_factory.mktemp("oft") / "oft", LIBERO)


@pytest.fixture
def folder(published: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(published, tmp_path / "oft"))


@pytest.mark.parametrize(("dims", "blocks"), [(LIBERO, 2), (ALOHA, 3)])
def test_actions_equal_the_reference(tmp_path: Path, dims: tuple[int, int, int], blocks: int) -> None:
    action_dim, proprio_dim, chunk = dims
    theirs = ReferenceOft(action_dim, proprio_dim, blocks)
    checkpoint = openvla_oft.load(CheckpointFolder(write_oft(theirs, tmp_path / "oft", dims)))
    model = checkpoint.model
    assert (
        read_published(CheckpointFolder(checkpoint.path), Deployment(views=2)).config
        == checkpoint.model.config
    )  # the chunk, too
    for seed, prompt in enumerate(([11, 12, 29871], [50, 29871], [3, 4, 5, 6, 7, 8, 29871])):
        images = pictures(2, SIDE, SIDE, seed)
        proprio = torch.rand(1, proprio_dim, generator=torch.Generator().manual_seed(seed)) * 2 - 1
        ids = torch.zeros(1, checkpoint.model.config.max_text_tokens, dtype=torch.int64)
        ids[0, : len(prompt)] = torch.tensor(prompt)
        with torch.no_grad():
            expected = theirs.actions(centre_crop(images), proprio, prompt, chunk)
            inputs = model.sequence_inputs(torch.tensor([len(prompt)]))
            found = model(torch.from_numpy(images)[None], proprio, ids, *inputs)
        assert found.shape == (1, chunk, action_dim)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("dims", "low", "high"), [(LIBERO, "q01", "q99"), (ALOHA, "min", "max")])
def test_the_robot_set_says_which_statistics_count(
    tmp_path: Path, dims: tuple[int, int, int], low: str, high: str
) -> None:
    folder = write_oft(ReferenceOft(*dims[:2]), tmp_path / "oft", dims)
    checkpoint, stats = openvla_oft.load(CheckpointFolder(folder)), statistics(*dims[:2])
    for part, scale in (("action", checkpoint.statistics.action), ("proprio", checkpoint.statistics.proprio)):
        np.testing.assert_array_equal(scale.low, np.float32(stats[part][low]))
        np.testing.assert_array_equal(scale.high, np.float32(stats[part][high]))
    assert not checkpoint.statistics.action.mask[-1] and checkpoint.statistics.proprio.mask.all()
    checkpoint.write_statistics(tmp_path / "statistics.json")  # what a bundle gets
    again = Statistics.read(tmp_path / "statistics.json", KEY, action_dim=dims[0], proprio_dim=dims[1])
    assert again.to_json(KEY) == checkpoint.statistics.to_json(KEY)


def test_a_robot_of_other_dims_needs_a_chunk_and_statistics(tmp_path: Path) -> None:
    folder = write_oft(ReferenceOft(3, 2), tmp_path / "oft", (3, 2, 4))
    with pytest.raises(
        CheckpointError, match=r"LIBERO \(7, 8\) .* found 3 of action and 2 of .* how many actions"
    ):
        read_published(CheckpointFolder(folder), Deployment(views=2))
    with pytest.raises(CheckpointError, match=r"write statistics\.json for this robot"):
        openvla_oft.load(CheckpointFolder(folder))
    mine = {part: {"q01": [0.0] * dim, "q99": [1.0] * dim} for part, dim in (("action", 3), ("proprio", 2))}
    (folder / "statistics.json").write_text(json.dumps({KEY: mine}))
    checkpoint = openvla_oft.load(CheckpointFolder(folder))
    assert (
        checkpoint.model.config.chunk,
        checkpoint.model.config.action_dim,
        checkpoint.model.config.proprio_dim,
    ) == (4, 3, 2)
    assert checkpoint.statistics.action.high.tolist() == [1.0] * 3
    checkpoint.write_statistics(tmp_path / "copy.json")
    written = json.loads((tmp_path / "copy.json").read_text())[KEY]
    assert {part: {bound: written[part][bound] for bound in mine[part]} for part in mine} == mine


def test_the_embodiment_may_ask_for_another_chunk(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_embodiment(embodiment(7, 8, 5), folder)
    assert openvla_oft.load(CheckpointFolder(folder)).model.config.chunk == 5
    assert "a chunk of 5 actions, where the published LIBERO has 8" in caplog.text


def test_dims_that_disagree_are_named(folder: Path) -> None:
    write_embodiment(embodiment(7, 7, 8), folder)
    with pytest.raises(CheckpointError, match=r"proprio: expected 8 as in config\.json, found 7"):
        openvla_oft.load(CheckpointFolder(folder))
    write_embodiment(embodiment(*LIBERO), folder)
    (folder / "dataset_statistics.json").write_text(json.dumps({KEY: statistics(6, 8)}))
    with pytest.raises(StatisticsError, match=r"libero\.action\.q01: expected a list of 7"):
        openvla_oft.load(CheckpointFolder(folder))


def test_heads_are_of_one_step_and_several_need_a_choice(folder: Path) -> None:
    other = ReferenceOft(7, 8)
    torch.nn.init.zeros_(other.head.model["fc2"].bias)
    save_head(folder, "action_head", other.head.state_dict(), step="latest")
    with pytest.raises(CheckpointError, match="found steps 50000, latest; choose one"):
        openvla_oft.load(CheckpointFolder(folder))
    with pytest.raises(CheckpointError, match="proprio_projector: expected a step of 50000, found 'latest'"):
        openvla_oft.load(CheckpointFolder(folder), head_step="latest")
    save_head(folder, "proprio_projector", other.proprio.state_dict(), step="latest")
    with pytest.raises(CheckpointError, match=r"choose one \(--head-step\)"):
        load_checkpoint(folder)
    assert load_checkpoint(folder, head_step="latest").module.action_head.model["fc2"].bias.abs().max() == 0
    biases = [
        openvla_oft.load(CheckpointFolder(folder), head_step=step).model.action_head.model["fc2"].bias
        for step in ("50000", "latest")
    ]
    assert biases[0].abs().max() > 0 and biases[1].abs().max() == 0


def test_a_head_that_would_run_code_does_not(folder: Path, tmp_path: Path) -> None:
    head = folder / "action_head--50000_checkpoint.pt"
    torch.save({"module.model.fc2.weight": Payload(tmp_path / "marker")}, head)
    with pytest.raises(CheckpointError, match=r"action_head--50000_checkpoint\.pt: .* nothing of it was run"):
        openvla_oft.load(CheckpointFolder(folder))
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("noisy_action_projector", "found noisy_action_projector: a head that denoises actions"),
        ("vision_backbone", r"found vision_backbone: towers that see the instruction \(FiLM\)"),
    ],
)
def test_variants_that_nothing_runs_are_refused(folder: Path, name: str, message: str) -> None:
    save_head(folder, name, {})
    with pytest.raises(CheckpointError, match=message):
        openvla_oft.load(CheckpointFolder(folder))


@pytest.mark.parametrize("name", ["action_head", "proprio_projector"])
def test_a_missing_head_is_named(folder: Path, name: str) -> None:
    (folder / f"{name}--50000_checkpoint.pt").unlink()
    with pytest.raises(CheckpointError, match=rf"expected {name}--<step>_checkpoint\.pt in oft/, found none"):
        openvla_oft.load(CheckpointFolder(folder))


def test_heads_with_other_weights_are_named(folder: Path) -> None:
    weights = ReferenceOft(7, 8).head.state_dict()
    first = weights.pop("model.layer_norm1.weight")
    save_head(folder, "action_head", weights)
    with pytest.raises(
        CheckpointError, match=r"missing: action_head\.model\.layer_norm1\.weight and left over: none"
    ):
        openvla_oft.load(CheckpointFolder(folder))
    save_head(folder, "action_head", {**weights, "model.layer_norm1.weight": first[:-1]})
    with pytest.raises(
        CheckpointError, match=r"wrong: action_head\.model\.layer_norm1\.weight \(expected \[168\]"
    ):
        openvla_oft.load(CheckpointFolder(folder))
    save_head(folder, "action_head", {"noise_predictor.mlp_resnet.fc2.weight": first})
    with pytest.raises(
        CheckpointError, match=r"expected a matrix 'action_head\.model\.fc2\.weight', found none"
    ):
        openvla_oft.load(CheckpointFolder(folder))


def test_the_instruction_goes_into_the_prompt_in_lower_case(folder: Path) -> None:
    write_embodiment(replace(embodiment(*LIBERO), statistics_key=""), folder)
    checkpoint = openvla_oft.load(CheckpointFolder(folder))
    assert checkpoint.instruction.prompt(" Push the RED cube ") == "In: push the red cube Out: "
    assert checkpoint.embodiment.statistics_key == KEY  # the only data set


def test_without_a_template_the_prompt_is_the_published_one(folder: Path) -> None:
    write_embodiment(replace(embodiment(*LIBERO), template=""), folder)
    checkpoint = openvla_oft.load(CheckpointFolder(folder))
    prompt = "In: What action should the robot take to push it?\nOut: "
    assert checkpoint.instruction.prompt("Push it") == prompt
    assert checkpoint.embodiment.template == prompt.replace("push it", "{instruction}")


def test_pictures_are_stretched_and_cropped_as_the_embodiment_says(folder: Path) -> None:
    write_embodiment(replace(embodiment(*LIBERO), image_size=(20, 36), crop=1.0), folder)
    model = openvla_oft.load(CheckpointFolder(folder)).model
    assert model.image_size == (20, 36)
    image = pictures(1, 20, 36)
    planes = [
        Image.fromarray(image[0, :, :, channel].astype(np.float32)).resize(
            (SIDE, SIDE), Image.Resampling.LANCZOS
        )
        for channel in range(3)
    ]
    theirs = np.stack([np.asarray(plane) for plane in planes], axis=-1).clip(0, 255)
    found = model.fit(torch.from_numpy(image).float())[0].numpy()
    assert np.abs(found - theirs).max() <= 0.501  # whole levels, once
    own = replace(model.config, camera=None, crop=0.9)
    cropped = own.picture(torch.from_numpy(pictures(1, SIDE, SIDE)).float()).numpy()
    np.testing.assert_array_equal(cropped, centre_crop(pictures(1, SIDE, SIDE)))


def test_a_prompt_ends_in_the_lone_space(folder: Path) -> None:
    write_embodiment(replace(embodiment(*LIBERO), template="In: {instruction} Out:"), folder)
    with pytest.raises(
        CheckpointError, match=r"template: .* the lone space, id 29871, found \[6\]; end it in 'Out: '"
    ):
        openvla_oft.load(CheckpointFolder(folder))
