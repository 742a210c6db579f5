"""π0 against transformers' own class, from the files that it writes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from saccade.export.families.deployment import Deployment
from saccade.export.families.flow import LayerMemory, joint_bias
from saccade.export.families.pi import config as pi_checkpoint
from saccade.export.families.pi.pi0 import Pi0, build, key_rules, read_config
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.shards import StoredWeights
from saccade.export.loading.weights import load_weights
from saccade.export.lowering.capture import GraphPorts, to_graph
from saccade.proto.errors import CheckpointError
from tests.export.families.pi_scenes import (
    ACTION,
    CHUNK,
    DEPLOYMENT,
    EXPERT_WIDTH,
    PATCHES,
    SCENES,
    STATE,
    VIEWS,
    Scene,
    assert_memory,
    expert,
    rename_weights,
    vlm,
)
from tests.export.families.published import randomise

PREFIX = "paligemma_with_expert.paligemma."
EMBEDDING = PREFIX + "model.language_model.model.embed_tokens"


def reference(*, kv_heads: int = 1, steps: int = 4) -> Any:
    """A tiny model of the real class."""
    config = transformers.PI0Config(
        vlm_config=vlm(kv_heads),
        dit_config=expert(kv_heads),
        chunk_size=CHUNK,
        max_state_dim=STATE,
        max_action_dim=ACTION,
        num_inference_steps=steps,
    )
    model = transformers.PI0ForConditionalGeneration(config)
    randomise(model)
    return model.eval()


def precise_sines(model: Any) -> None:
    """Let the reference take time's sines in float64, as openpi and lerobot do.

    transformers takes angles of up to 1571 radians in float32, which puts them off by 1e-4. In so narrow an expert
    that is all there is between its actions and ours.
    """
    frequencies = 2 * math.pi / (4e-3 * 1000 ** torch.linspace(0, 1, EXPERT_WIDTH // 2, dtype=torch.float64))

    def sines(time: Tensor) -> Tensor:
        angles = time.double()[:, None] * frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=1).float()

    model.embed_action_time.sinusoid_embeds.forward = sines


def save(model: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    return folder


def ours(folder: Path) -> Pi0:
    config = read_config(CheckpointFolder(folder), DEPLOYMENT)
    model = build(config)
    load_weights(model, StoredWeights(folder), key_rules(config))
    model.fold()
    return model.eval()


def their_memory(model: Any, scene: Scene) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Run transformers' prefix as its ``sample_actions`` does: keys, values and mask of each layer."""
    given = scene.for_reference()
    embeddings = model.model.embed_prefix(
        given["input_ids"], given["pixel_values"], given["pixel_attention_mask"]
    )
    cache = model.model.vlm(
        inputs_embeds=embeddings,
        attention_mask=given["attention_mask"],
        position_ids=given["attention_mask"].cumsum(-1) - 1,
        token_type_ids=torch.zeros_like(given["input_ids"]),
        use_cache=True,
    ).past_key_values
    valid = given["attention_mask"].bool()
    return [(layer.keys, layer.values, valid) for layer in cache.layers]


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize(("kv_heads", "steps"), [(1, 10), (2, 3)])
def test_memory_and_actions_equal_the_reference(tmp_path: Path, name: str, kv_heads: int, steps: int) -> None:
    scene = SCENES[name]
    theirs = reference(kv_heads=kv_heads, steps=steps)
    model = ours(save(theirs, tmp_path / "pi0"))
    inputs = model.sequence_inputs(scene.lengths, scene.views)
    with torch.no_grad():
        given = {"state": scene.state, "noise": scene.noise, **scene.for_reference()}
        as_it_is = theirs.sample_actions(**given)
        precise_sines(theirs)
        expected = theirs.sample_actions(**given)
        memory = model.remember(model.perceive(scene.images, scene.token_ids, inputs.mask, inputs.positions))
        actions = model(scene.images, scene.state, scene.token_ids, *inputs, scene.noise)
        assert_memory(memory, inputs.mask, their_memory(theirs, scene))
    assert (scene.noise - actions).abs().max() > 0.1
    torch.testing.assert_close(actions, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(actions, as_it_is, atol=5e-3, rtol=0)


def test_time_constants_leave_no_time_in_a_step(tmp_path: Path) -> None:
    """The folded half of the MLP and its constants are the whole MLP: transformers' embedding at one time."""
    theirs = reference(steps=4)
    model = ours(save(theirs, tmp_path / "pi0"))
    precise_sines(theirs)
    scene = SCENES["all cameras"]
    assert model.time_constants.shape == (4, EXPERT_WIDTH)
    assert model.action_time.action_time_mlp_in.weight.shape == (EXPERT_WIDTH, EXPERT_WIDTH)
    with torch.no_grad():
        for step, time in enumerate([1.0, 0.75, 0.5, 0.25]):
            expected = theirs.embed_action_time(scene.state, scene.noise, torch.tensor([time]))
            found = torch.cat(
                [
                    model.embed_lead(scene.state),
                    model.embed_actions(scene.noise, model.time_constants[step]),
                ],
                dim=1,
            )
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def thinned(model: Pi0, scene: Scene, kept: Tensor) -> Tensor:
    """Actions where a policy kept only ``kept`` visual tokens from the second layer on; positions stay."""
    inputs = model.sequence_inputs(scene.lengths, scene.views)
    whole = model.perceive(scene.images, scene.token_ids, inputs.mask, inputs.positions)
    first, *_ = model.remember(whole)
    rotary, bias = model.decoder.rotary(whole.positions), model.decoder.attention_bias(whole.mask)
    hidden = model.decoder.layers[0](whole.hidden, rotary, bias).hidden
    visual = model.layout.take(hidden, "visual")
    survivors = torch.gather(visual, 1, kept.unsqueeze(2).expand(-1, -1, visual.shape[2]))
    sequence = whole._replace(hidden=hidden).with_visual(survivors, kept)
    memory = [first]
    for layer in model.decoder.layers[1:]:
        tables = model.decoder.rotary(sequence.positions), model.decoder.attention_bias(sequence.mask)
        output = layer(sequence.hidden, *tables)
        memory.append(LayerMemory(output.attention.key, output.attention.value, sequence.mask))
        sequence = sequence._replace(hidden=output.hidden)
    return model.sample(
        scene.noise, model.observe(memory, inputs.suffix_positions, model.embed_lead(scene.state))
    )


def masked(model: Pi0, scene: Scene, kept: Tensor) -> Tensor:
    """The same with dropped tokens still there, but seen by nobody from the second layer on."""
    inputs = model.sequence_inputs(scene.lengths, scene.views)
    whole = model.perceive(scene.images, scene.token_ids, inputs.mask, inputs.positions)
    alive = inputs.mask.clone()
    alive[:, : VIEWS * PATCHES] &= torch.zeros_like(alive[:, : VIEWS * PATCHES]).scatter(1, kept, value=True)
    memory, hidden = [], whole.hidden
    for index, layer in enumerate(model.decoder.layers):
        mask = alive if index else inputs.mask
        output = layer(hidden, model.decoder.rotary(inputs.positions), model.decoder.attention_bias(mask))
        memory.append(LayerMemory(output.attention.key, output.attention.value, mask))
        hidden = output.hidden
    return model.sample(
        scene.noise, model.observe(memory, inputs.suffix_positions, model.embed_lead(scene.state))
    )


def test_visual_tokens_may_be_thinned_between_layers(tmp_path: Path) -> None:
    model = ours(save(reference(), tmp_path / "pi0"))
    scene = SCENES["no wrist"]
    kept = torch.tensor([[0, 3, 15, 20, 33, 40, 47]])
    with torch.no_grad():
        actions = thinned(model, scene, kept)
        torch.testing.assert_close(actions, masked(model, scene, kept), atol=1e-4, rtol=1e-4)
        every = torch.arange(VIEWS * PATCHES).unsqueeze(0)
        inputs = model.sequence_inputs(scene.lengths, scene.views)
        full = model(scene.images, scene.state, scene.token_ids, *inputs, scene.noise)
        torch.testing.assert_close(thinned(model, scene, every), full, atol=1e-4, rtol=1e-4)
    assert (actions - full).abs().max() > 1e-3


def test_the_state_sees_no_action_and_nobody_sees_padding() -> None:
    bias = joint_bias(torch.tensor([[True, False, True]]), (0, 1, 1))
    seen = (bias == 0).squeeze(1).squeeze(0).int().tolist()
    assert seen == [[1, 0, 1, 1, 0, 0], [1, 0, 1, 1, 1, 1], [1, 0, 1, 1, 1, 1]]
    assert torch.isfinite(bias.half()).all()


@pytest.mark.slow
def test_one_graph_holds_the_whole_control_step(tmp_path: Path) -> None:
    import onnx_ir
    import onnxruntime

    model = ours(save(reference(steps=2), tmp_path / "pi0"))
    scene = SCENES["no wrist"]
    given = (
        scene.images,
        scene.state,
        scene.token_ids,
        *model.sequence_inputs(scene.lengths, scene.views),
        scene.noise,
    )
    names = ("images", "state", "token_ids", "mask", "positions", "suffix_positions", "noise")
    graph = to_graph(model, given, GraphPorts(names, ("actions",)), "pi0")
    onnx_ir.save(graph, tmp_path / "step.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "step.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {name: value.numpy() for name, value in zip(names, given, strict=True)})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(found), model(*given), atol=1e-4, rtol=1e-4)


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    return save(reference(), tmp_path / "pi0")


@pytest.mark.parametrize(
    "changes",
    [
        {"": "model."},
        {"": "module.model."},
        {EMBEDDING: PREFIX + "lm_head"},
        {PREFIX + "model.language_model.model.": PREFIX + "model.language_model."},
        {PREFIX + "model.vision_tower.": PREFIX + "model.vision_tower.vision_model."},
        {PREFIX + "model.": PREFIX, "paligemma_with_expert.gemma_expert.lm_head": None},
    ],
)
def test_every_published_spelling_is_read(stored: Path, changes: dict[str, str | None]) -> None:
    expected = ours(stored).state_dict()
    rename_weights(stored, changes)
    found = ours(stored).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_an_untied_head_beside_the_embedding_is_not_read(stored: Path) -> None:
    path = stored / "model.safetensors"
    weights = load_file(path)
    expected = ours(stored).decoder.embed_tokens.weight
    weights[PREFIX + "lm_head.weight"] = weights[EMBEDDING + ".weight"] + 1
    save_file(weights, path)
    assert torch.equal(ours(stored).decoder.embed_tokens.weight, expected)


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, **changes}))


def test_weights_that_do_not_fit_are_refused(stored: Path) -> None:
    rename_weights(stored, {"state_proj": None})
    with pytest.raises(
        CheckpointError, match=r"missing: state_proj.weight, state_proj.bias|state_proj.bias, state_proj"
    ):
        ours(stored)
    rename_weights(stored, {"action_out_proj": "actions_out"})
    with pytest.raises(CheckpointError, match=r"left over: actions_out.bias, actions_out.weight"):
        ours(stored)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "pi0_fast"}, "model_type: expected 'pi0', found 'pi0_fast'"),
        ({"type": "pi05"}, "type: expected 'pi0', found 'pi05'"),
        ({"chunk_size": "50"}, "chunk_size: expected int, found '50'"),
        (
            {"dit_config": {**expert(1), "num_hidden_layers": 2}},
            "one attention for prefix and expert, found layers 3 and 2",
        ),
        (
            {"dit_config": {**expert(1), "hidden_size": 15}},
            "expected an even expert width, .* found 15",
        ),
        ({"dit_config": {"model_type": "gemma2"}}, "model_type: expected 'gemma', found 'gemma2'"),
        (
            {"vlm_config": {"model_type": "llava"}},
            "vlm_config: model_type: expected 'paligemma', found 'llava'",
        ),
        (
            {"vlm_config": None, "dit_config": None, "action_expert_variant": "gemma_300m_lora"},
            "variant of gemma_300m, gemma_2b, found 'gemma_300m_lora'; LoRA weights must be merged first",
        ),
        ({"vlm_config": None, "image_resolution": [224, 448]}, "height and width alike, found .224, 448."),
    ],
)
def test_a_configuration_that_is_not_known_is_refused(
    stored: Path, changes: dict[str, object], message: str
) -> None:
    edit_config(stored, **changes)
    with pytest.raises(CheckpointError, match=message):
        read_config(CheckpointFolder(stored), DEPLOYMENT)


def test_tokens_before_the_pictures_are_refused(stored: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no tokens before or between pictures, found \(2,\)"):
        read_config(CheckpointFolder(stored), Deployment(before=(2,)))


def test_lerobot_and_openpi_configurations_name_variants(tmp_path: Path) -> None:
    """The published sizes: 3 cameras of 256 patches, two Gemmas of 18 layers, 8 heads of 256 and one kv head."""
    lerobot = {"type": "pi0", "chunk_size": 50, "paligemma_variant": "gemma_2b", "n_obs_steps": 1}
    openpi = {"action_dim": 24, "action_horizon": 10, "action_expert_variant": "gemma_300m", "precision": "x"}
    found = {}
    for name, content in {"lerobot": lerobot, "openpi": openpi}.items():
        (tmp_path / "config.json").write_text(json.dumps(content))
        found[name] = read_config(CheckpointFolder(tmp_path), Deployment(views=3, max_text_tokens=48))
    config = found["lerobot"]
    published = transformers.PI0Config()
    text, vision = published.vlm_config.text_config, published.vlm_config.vision_config
    for decoder, theirs in ((config.prefix, text), (config.expert, published.dit_config)):
        assert (decoder.width, decoder.mlp_dim, decoder.layers) == (
            theirs.hidden_size, theirs.intermediate_size, theirs.num_hidden_layers,
        )  # fmt: skip
        assert (decoder.heads, decoder.kv_heads, decoder.head_dim) == (8, 1, 256)
        assert decoder.activation == "gelu_tanh" and not decoder.causal
    assert (config.tower.width, config.tower.mlp_dim, config.tower.blocks, config.tower.heads) == (
        vision.hidden_size, vision.intermediate_size, vision.num_hidden_layers, vision.num_attention_heads,
    )  # fmt: skip
    assert config.grid.tokens == 768 and config.tower.pixel_mean == (0.5, 0.5, 0.5)
    assert config.prefix.vocab_size == text.vocab_size and config.state_width == 32
    assert (config.flow.chunk, config.flow.action_dim, config.flow.steps) == (50, 32, 10)
    assert (found["openpi"].flow.chunk, found["openpi"].flow.action_dim, found["openpi"].state_width) == (
        10,
        24,
        24,
    )
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"expected 'type' or 'model_type' 'pi0', or openpi's"):
        read_config(CheckpointFolder(tmp_path), DEPLOYMENT)


def test_frozen_defaults_are_those_of_the_class() -> None:
    published = transformers.PI0Config()
    for name in (
        "chunk_size",
        "max_state_dim",
        "max_action_dim",
        "num_inference_steps",
        "min_period",
        "max_period",
    ):
        assert pi_checkpoint._DEFAULTS[name] == getattr(published, name), name
