"""π0.5 against parts of transformers put together as published, from files named as lerobot's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from saccade.export.families.pi import config as pi_checkpoint
from saccade.export.families.pi.pi05 import Pi05, build, key_rules, read_config
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.mapped_weight import MappedWeight
from saccade.export.loading.shards import StoredWeights
from saccade.export.loading.weights import hold_weights, load_weights
from saccade.proto.errors import CheckpointError
from tests.export.families.pi05_reference import Pi05Reference
from tests.export.families.pi_scenes import (
    ACTION,
    CHUNK,
    DEPLOYMENT,
    EXPERT_WIDTH,
    SCENES,
    TOWER,
    assert_memory,
    expert,
    rename_weights,
    vlm,
)


@pytest.fixture(params=[1, 2], autouse=True)
def kv_heads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Variants of a tiny size: a lerobot file names the variant, and its sizes are in code, there as here."""
    monkeypatch.setitem(pi_checkpoint.GEMMA_VARIANTS, "gemma_2b", vlm(request.param)["text_config"])
    monkeypatch.setitem(pi_checkpoint.GEMMA_VARIANTS, "gemma_300m", expert(request.param))
    monkeypatch.setattr(pi_checkpoint, "TOWER", TOWER)
    return int(request.param)


def ours(folder: Path, *, mapped: bool = False) -> Pi05:
    config = read_config(CheckpointFolder(folder), DEPLOYMENT)
    model = build(config)
    load_weights(model, StoredWeights(folder), key_rules(config), mapped=mapped)
    model.fold()
    return model.eval()


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("steps", [3, 10])
def test_memory_and_actions_equal_the_reference(tmp_path: Path, kv_heads: int, name: str, steps: int) -> None:
    scene = SCENES[name]
    theirs = Pi05Reference(kv_heads=kv_heads, steps=steps)
    model = ours(theirs.save(tmp_path / "pi05"))
    inputs = model.sequence_inputs(scene.lengths, scene.views)
    with torch.no_grad():
        memory = model.remember(model.perceive(scene.images, scene.token_ids, inputs.mask, inputs.positions))
        actions = model(scene.images, None, scene.token_ids, *inputs, scene.noise)
        cache, mask = theirs.prefix(scene)
        assert_memory(memory, inputs.mask, [(layer.keys, layer.values, mask) for layer in cache.layers])
        expected = theirs.sample(scene)
    assert (scene.noise - actions).abs().max() > 0.1
    torch.testing.assert_close(actions, expected, atol=1e-4, rtol=1e-4)


def test_each_velocity_equals_the_reference_and_no_weight_of_time_is_left(
    tmp_path: Path, kv_heads: int
) -> None:
    theirs = Pi05Reference(kv_heads=kv_heads, steps=4)
    model = ours(theirs.save(tmp_path / "pi05"))
    assert model.time_constants.shape == (4, 2 * 3 + 1, 3, EXPERT_WIDTH)
    assert not [name for name in model.state_dict() if "dense" in name or "time_mlp" in name]
    scene = SCENES["only the last, and two robots"]
    inputs = model.sequence_inputs(scene.lengths, scene.views)
    with torch.no_grad():
        memory = model.remember(model.perceive(scene.images, scene.token_ids, inputs.mask, inputs.positions))
        observed = model.observe(memory, inputs.suffix_positions)
        cache, mask = theirs.prefix(scene)
        for step, time in enumerate([1.0, 0.75, 0.5, 0.25]):
            found, _ = model.denoise(scene.noise, model.time_constants[step], observed)
            expected = theirs.velocity(scene.noise, time, cache, mask)
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {"model.": ""},
        {"model.paligemma_with_expert.paligemma.lm_head": None},
        {"model.paligemma_with_expert.paligemma.model.language_model.embed_tokens": None},
        {"model.paligemma_with_expert.gemma_expert.lm_head": None},
    ],
)
def test_every_published_spelling_is_read(
    tmp_path: Path, kv_heads: int, changes: dict[str, str | None]
) -> None:
    folder = Pi05Reference(kv_heads=kv_heads).save(tmp_path / "pi05")
    expected = ours(folder).state_dict()
    rename_weights(folder, changes)
    found = ours(folder).state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_time_is_folded_out_of_weights_that_stay_in_their_file(
    tmp_path: Path, kv_heads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Pi05Reference(kv_heads=kv_heads).save(tmp_path / "pi05")
    path = folder / "model.safetensors"
    save_file({name: value.to(torch.bfloat16) for name, value in load_file(path).items()}, path)
    expected = ours(folder)
    monkeypatch.setattr("saccade.export.loading.weights.MAPPED_BYTES", 0)
    found = ours(folder, mapped=True)
    assert any(isinstance(weight, MappedWeight) for weight in found.expert.parameters())
    assert torch.equal(found.time_constants, expected.time_constants)
    hold_weights(found)
    held = found.state_dict()
    assert not any(isinstance(weight, MappedWeight) for weight in found.parameters())
    assert all(torch.equal(held[name], value) for name, value in expected.state_dict().items())


def test_weights_of_pi0_are_refused(tmp_path: Path, kv_heads: int) -> None:
    folder = Pi05Reference(kv_heads=kv_heads).save(tmp_path / "pi05")
    rename_weights(folder, {"model.time_mlp_in": "model.action_time_mlp_in"})
    with pytest.raises(
        CheckpointError, match=r"missing: time_mlp_in.* and left over: model.action_time_mlp_in"
    ):
        ours(folder)


def test_a_checkpoint_of_pi0_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"type": "pi0"}))
    with pytest.raises(CheckpointError, match=r"config.json: type: expected 'pi05', found 'pi0'"):
        read_config(CheckpointFolder(tmp_path), DEPLOYMENT)


def test_sizes_come_from_the_file(tmp_path: Path, kv_heads: int) -> None:
    config = read_config(CheckpointFolder(Pi05Reference(steps=7).save(tmp_path / "pi05")), DEPLOYMENT)
    assert (config.flow.chunk, config.flow.action_dim, config.flow.steps) == (CHUNK, ACTION, 7)
    assert (config.tower.image_size, config.prefix.kv_heads, config.expert.width) == (
        20,
        kv_heads,
        EXPERT_WIDTH,
    )
