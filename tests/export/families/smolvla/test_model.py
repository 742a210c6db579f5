"""SmolVLA against lerobot's own class, from the files that it writes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from saccade.export.families.deployment import Deployment
from saccade.export.families.flow import LayerMemory
from saccade.export.families.sequence import Sequence
from saccade.export.families.smolvla.config import (
    BACKBONE_NAME,
    BACKBONES,
    DEFAULTS,
    FIXED,
    SmolVlaConfig,
    key_rules,
    read_config,
)
from saccade.export.families.smolvla.model import SmolVla, build
from saccade.export.inspection.checkpoint import inspect_checkpoint
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.lerobot_statistics import read_statistics
from saccade.export.loading.shards import StoredWeights
from saccade.export.loading.weights import load_weights
from saccade.export.models.cross_expert import CrossLayer
from saccade.proto.errors import CheckpointError
from saccade.proto.inspection import InspectionRequest
from tests.export.families.lerobot_reference import oracle, write

VARIANTS = ("published", "tied")
VIEWS = 2
DEPLOYMENT = Deployment(views=VIEWS)


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of lerobot's own class."""
    return write("smolvla", tmp_path_factory.mktemp("lerobot") / "smolvla")


def ours(folder: Path) -> SmolVla:
    config = read_config(CheckpointFolder(folder), DEPLOYMENT)
    model = build(config)
    load_weights(model, StoredWeights(folder), key_rules(config))
    model.fold()
    return model.eval()


def perceive(model: SmolVla, given: dict[str, Tensor], mask: Tensor, positions: Tensor) -> Sequence:
    return model.perceive(given["images"], given["token_ids"], mask, positions, given["state"])


@pytest.mark.parametrize("variant", VARIANTS)
def test_actions_equal_the_reference(written: Path, variant: str) -> None:
    folder = written / variant
    model, given = ours(folder), oracle(folder)
    inputs = model.sequence_inputs(given["lengths"], torch.ones(3, VIEWS, dtype=torch.bool))
    with torch.no_grad():
        actions = model(given["images"], given["state"], given["token_ids"], *inputs, given["noise"])
    assert (actions - given["noise"][..., : actions.shape[-1]]).abs().max() > 0.1
    torch.testing.assert_close(actions, given["actions"], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_checkpoint_can_be_inspected(written: Path, variant: str) -> None:
    found = inspect_checkpoint(written / variant, InspectionRequest())
    assert found.family == "smolvla" and "names and shapes fit" in found.facts["files"]
    assert found.visual_tokens == VIEWS * 4
    assert [part.name for part in found.budgets[0].parts] == ["vision", "projector", "prefix", "denoise"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_prefix_equals_the_reference(written: Path, variant: str) -> None:
    folder = written / variant
    model, given = ours(folder), oracle(folder)
    inputs = model.sequence_inputs(given["lengths"], torch.ones(3, VIEWS, dtype=torch.bool))
    with torch.no_grad():
        prefix = perceive(model, given, inputs.mask, inputs.positions)
        memory = model.remember(prefix)
    theirs = given["prefix_mask"]
    assert theirs.sum(dim=1).tolist() == inputs.mask.sum(dim=1).tolist()
    torch.testing.assert_close(
        prefix.hidden[inputs.mask], given["prefix_embeddings"][theirs], atol=1e-4, rtol=1e-4
    )
    assert len(memory) == len(given["prefix_keys"]) == model.config.decoder.layers >= 4
    for layer, key, value in zip(memory, given["prefix_keys"], given["prefix_values"], strict=True):
        for found, expected in ((layer.key, key), (layer.value, value)):
            valid = found.transpose(1, 2)[inputs.mask]
            torch.testing.assert_close(valid, expected.transpose(1, 2)[theirs], atol=1e-4, rtol=1e-4)


def test_an_absent_camera_leaves_no_trace(written: Path) -> None:
    """The reference was given an empty camera too, masked; ours may mask it or not have it at all."""
    folder = written / "published"
    given = oracle(folder)
    assert given["prefix_mask"].shape[1] == (VIEWS + 1) * 4 + given["token_ids"].shape[1] + 1
    model = ours(folder)
    noise = torch.randint(0, 256, given["images"].shape, dtype=torch.uint8)
    mask = torch.tensor([[True, False]] * 3)
    inputs = model.sequence_inputs(given["lengths"], mask)
    with torch.no_grad():
        expected = model(given["images"], given["state"], given["token_ids"], *inputs, given["noise"])
        images = torch.where(mask[..., None, None, None], given["images"], noise)
        found = model(images, given["state"], given["token_ids"], *inputs, given["noise"])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert (found - given["actions"]).abs().max() > 1e-2


def test_thinned_visual_tokens_keep_their_positions(written: Path) -> None:
    """Tokens that a policy drops are as good as masked."""
    folder = written / "published"
    model, given = ours(folder), oracle(folder)
    inputs = model.sequence_inputs(given["lengths"], torch.ones(3, VIEWS, dtype=torch.bool))
    kept = torch.tensor([[0, 3, 5], [1, 2, 7], [4, 5, 6]])
    visual = torch.zeros(3, model.layout.visual, dtype=torch.bool).scatter(1, kept, value=True)
    masked = model.layout.replace_visual(inputs.mask, visual)
    with torch.no_grad():
        whole = perceive(model, given, inputs.mask, inputs.positions)
        thin = whole.with_visual(torch.gather(whole.hidden, 1, kept[..., None].expand(-1, -1, 48)), kept)
        found = model.sample(given["noise"], model.observe(model.remember(thin), inputs.suffix_positions))
        memory = model.remember(whole._replace(mask=masked))
        expected = model.sample(given["noise"], model.observe(memory, inputs.suffix_positions))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_what_follows_from_the_prefix_is_computed_once(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps of the expert project no keys and values of the prefix, and no time."""
    folder = written / "published"
    model, given = ours(folder), oracle(folder)
    inputs = model.sequence_inputs(given["lengths"], torch.ones(3, VIEWS, dtype=torch.bool))
    crossing = [layer for layer in model.expert.layers if isinstance(layer, CrossLayer)]
    assert [isinstance(layer, CrossLayer) for layer in model.expert.layers] == [False, True, False, True]
    calls: list[int] = []
    for layer in crossing:
        layer.self_attn.k_proj.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        model(given["images"], given["state"], given["token_ids"], *inputs, given["noise"])
    assert len(calls) == len(crossing) and model.flow.steps == 10
    assert model.time_constants.shape == (10, 36)
    assert model.action_time.action_time_mlp_in.weight.shape == (36, 36)


@pytest.mark.parametrize("variant", VARIANTS)
def test_units_are_those_of_the_processors(written: Path, variant: str) -> None:
    folder = written / variant
    given, config = oracle(folder), read_config(CheckpointFolder(folder), DEPLOYMENT)
    found = read_statistics(
        CheckpointFolder(folder), state_dim=config.state_dim, action_dim=config.action_dim
    )
    state = torch.from_numpy(found.proprio.normalise(given["raw_state"].numpy()))
    torch.testing.assert_close(state, given["state"], atol=1e-6, rtol=1e-6)
    physical = torch.from_numpy(found.action.unnormalise(given["actions"].numpy()))
    torch.testing.assert_close(physical, given["physical_actions"], atol=1e-5, rtol=1e-6)


@pytest.mark.slow
def test_the_exported_graph_gives_the_same_actions(written: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(written / "published", tmp_path / "two_steps")
    rewrite(folder, "config.json", lambda stored: stored.update(num_steps=2))
    model, given = ours(folder), oracle(folder)
    inputs = model.sequence_inputs(given["lengths"], torch.ones(3, VIEWS, dtype=torch.bool))
    arguments = (given["images"], given["state"], given["token_ids"], *inputs, given["noise"])
    with torch.no_grad():
        expected = model(*arguments)
    program = torch.onnx.export(model, arguments, dynamo=True, verbose=False)
    assert program is not None
    torch.testing.assert_close(torch.as_tensor(program(*arguments)[0]), expected, atol=1e-4, rtol=1e-4)


def test_defaults_are_those_of_the_class(written: Path) -> None:
    theirs = json.loads((written / "defaults.json").read_text())
    found = {name: list(value) if isinstance(value, tuple) else value for name, value in DEFAULTS.items()}
    assert found == {name: theirs[name] for name in DEFAULTS}
    assert all(theirs.get(name, False) in accepted for name, accepted in FIXED.items())


def test_the_file_may_leave_out_what_the_class_assumes(written: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(written / "published", tmp_path / "short")
    rewrite(folder, "config.json", lambda stored: [stored.pop(name) for name in FIXED if name in stored])
    rewrite(folder, "config.json", lambda stored: [stored.pop(name) for name in ("num_steps", "max_period")])
    assert read_config(CheckpointFolder(folder), DEPLOYMENT) == read_config(
        CheckpointFolder(written / "published"), DEPLOYMENT
    )


def test_sizes_of_the_published_model(tmp_path: Path) -> None:
    """From the name of its backbone alone."""
    config = config_of({}, {}, folder=tmp_path)
    assert config.segments == {"visual": 3 * 64, "text": 48, "state": 1}
    assert (config.decoder.layers, config.decoder.width, config.decoder.rope_theta) == (16, 960, 1e4)
    expert = config.expert
    assert (expert.width, expert.mlp_dim, expert.heads, expert.kv_heads, expert.head_dim) == (
        720,
        2048,
        15,
        5,
        64,
    )
    with torch.device("meta"):
        model = SmolVla(config)
    assert model.projector.weight.shape == (960, 12288)
    assert round(sum(weight.numel() for weight in model.parameters()) / 1e6) == 403


@pytest.mark.parametrize("prefix", ["model._orig_mod.", ""])
def test_every_spelling_is_read(written: Path, tmp_path: Path, prefix: str) -> None:
    folder = shutil.copytree(written / "published", tmp_path / "spelled")
    weights = load_file(folder / "model.safetensors")
    spelled = {prefix + name.removeprefix("model."): value for name, value in weights.items()}
    spelled["normalize_inputs.buffer_observation_state.mean"] = torch.zeros(5)
    spelled["vlm_with_expert.vlm.model.text_model.layers.5.mlp.up_proj.weight"] = torch.zeros(1)
    save_file(spelled, folder / "model.safetensors")
    expected = ours(written / "published").state_dict()
    found = ours(folder).state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_leftover_weights_are_refused(written: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(written / "published", tmp_path / "more")
    weights = load_file(folder / "model.safetensors")
    weights["model.vlm_with_expert.lm_expert.layers.4.mlp.up_proj.weight"] = torch.zeros(1)
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"left over: model.*lm_expert\.layers\.4\.mlp"):
        ours(folder)


def test_a_cross_layer_where_a_joint_one_is_stored_is_refused(written: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(written / "published", tmp_path / "every")
    rewrite(folder, "config.json", lambda stored: stored.update(self_attn_every_n_layers=1))
    with pytest.raises(
        CheckpointError, match=r"expert\.layers\.1\.self_attn\.k_proj\.weight \(expected \[24, 36\]"
    ):
        ours(folder)


def rewrite(folder: Path, name: str, change: Callable[[dict[str, Any]], object]) -> None:
    stored = json.loads((folder / name).read_text())
    change(stored)
    (folder / name).write_text(json.dumps(stored))


def camera(name: str) -> dict[str, Any]:
    return {f"observation.images.{name}": {"type": "VISUAL", "shape": [3, 256, 256]}}


PUBLISHED: dict[str, Any] = {
    "type": "smolvla",
    "input_features": {
        "observation.state": {"type": "STATE", "shape": [6]},
        **camera("camera1"),
        **camera("camera2"),
        **camera("camera3"),
        **camera("empty_camera_0"),
    },
    "output_features": {"action": {"type": "ACTION", "shape": [6]}},
}
"""What counts in the configuration of smolvla_base."""


def config_of(
    policy: dict[str, Any], backbone: dict[str, Any], deployment: Deployment | None = None, *, folder: Path
) -> SmolVlaConfig:
    (folder / "config.json").write_text(json.dumps({**PUBLISHED, **policy}))
    if backbone:
        published = next(iter(BACKBONES.values()))
        (folder / BACKBONE_NAME).write_text(json.dumps({**published, **backbone}))
    return read_config(CheckpointFolder(folder), deployment or Deployment(views=3))


@pytest.mark.parametrize(
    ("policy", "backbone", "message"),
    [
        ({"type": "pi0"}, {}, "config.json: type: expected 'smolvla', found 'pi0'"),
        ({"type": None}, {}, "config.json: expected 'type', found none"),
        ({"attention_mode": "self_attn"}, {}, "attention_mode: expected 'cross_attn', found 'self_attn'"),
        ({"adapt_to_pi_aloha": True}, {}, "adapt_to_pi_aloha: expected False, found True"),
        ({"add_image_special_tokens": True}, {}, "add_image_special_tokens: expected False, found True"),
        ({"n_obs_steps": 2}, {}, "n_obs_steps: expected 1, found 2"),
        ({"num_expert_layers": 8}, {}, r"num_expert_layers: expected -1, one for each of 16 layers .* found 8"),
        ({"expert_width_multiplier": 0.7511}, {}, "expected an even width, .* found 721"),
        ({"resize_imgs_with_padding": [512, 384]}, {}, r"expected the tower's \[512, 512\], found \[512, 384\]"),
        ({"resize_imgs_with_padding": None}, {}, "resize_imgs_with_padding: expected a list of int, found None"),
        ({}, {"vision_config": {"model_type": "smolvlm_vision"}}, r"the tower's \[224, 224\], found \[512, 512\]"),
        ({"vlm_model_name": "me/mine"}, {}, "expected HuggingFaceTB/.* found 'me/mine' and no such file; copy it"),
        ({"max_state_dim": 5}, {}, "observation.state: expected 1 to 5 numbers, found 6"),
        ({"max_action_dim": 5}, {}, "action: expected 1 to 5 numbers, found 6"),
        ({"output_features": {"action": {"shape": [2, 3]}}}, {}, r"expected a shape of one number, found \[2, 3\]"),
        ({"output_features": {}}, {}, "output_features: expected the object 'action', found none"),
        ({}, {"model_type": "idefics3"}, "model_type: expected 'smolvlm', found 'idefics3'"),
        ({}, {"text_config": {"model_type": "qwen2"}}, "model_type: expected 'llama', found 'qwen2'"),
        ({}, {"text_config": {"attention_bias": True}}, "attention_bias: expected False, found True"),
        ({}, {"scale_factor": 5}, "scale_factor: expected a divisor of 32 patches, found 5"),
    ],
)  # fmt: skip
def test_what_is_not_known_here_is_refused(
    tmp_path: Path, policy: dict[str, Any], backbone: dict[str, Any], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        config_of(policy, backbone, folder=tmp_path)


@pytest.mark.parametrize(
    ("deployment", "message"),
    [
        (
            Deployment(views=4),
            r"expected at least 4 cameras, found 3 \(camera1, camera2, camera3\)",
        ),
        (Deployment(views=0), "expected at least 1 cameras, found 3"),
        (Deployment(before=(1,)), r"expected no tokens before or between pictures, found \(1,\) and \(\)"),
    ],
)
def test_a_deployment_that_does_not_fit_is_refused(
    tmp_path: Path, deployment: Deployment, message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        config_of({}, {}, deployment, folder=tmp_path)


def test_a_prompt_has_no_more_room_than_the_tokenizer_gives(tmp_path: Path) -> None:
    short = Deployment(views=1, max_text_tokens=20)
    assert config_of({}, {}, short, folder=tmp_path).max_text_tokens == 20
    assert config_of({}, {}, folder=tmp_path).max_text_tokens == 48


def test_fewer_layers_than_asked_for_are_all_there_are(tmp_path: Path) -> None:
    config = config_of({"num_vlm_layers": 99, "self_attn_every_n_layers": -1}, {}, folder=tmp_path)
    assert (config.decoder.layers, config.expert.layers) == (32, 32)
    assert not any(config.is_joint(layer) for layer in range(32))


def test_memory_of_a_thinner_layer_has_its_own_mask(written: Path) -> None:
    """Later prefix layers may have fewer tokens; each expert layer attends to those at its height."""
    folder = written / "published"
    model, given = ours(folder), oracle(folder)
    inputs = model.sequence_inputs(given["lengths"], torch.ones(3, VIEWS, dtype=torch.bool))
    gone = 5
    with torch.no_grad():
        memory = model.remember(perceive(model, given, inputs.mask, inputs.positions))
        thin = [
            LayerMemory(*(part[:, :, gone:] for part in layer[:2]), layer.mask[:, gone:]) for layer in memory
        ]
        hidden = [
            layer._replace(mask=layer.mask & (torch.arange(layer.mask.shape[1]) >= gone)) for layer in memory
        ]
        found, expected = (
            model.sample(given["noise"], model.observe([*memory[:2], *last[2:]], inputs.suffix_positions))
            for last in (thin, hidden)
        )
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert (model.read_actions(found) - given["actions"]).abs().max() > 1e-3
