"""The family: sequence, bidirectional pass and head against a composition of public classes."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
import transformers

from saccade.export.families.openvla_oft.config import config_from_json
from saccade.export.families.openvla_oft.model import OpenVlaOft, initialise
from saccade.proto.errors import CheckpointError
from tests.export.samples import CONFIG, observation, tiny_model


def test_same_as_llama_with_a_zero_mask() -> None:
    model, decoder = tiny_model(), CONFIG.decoder
    llama = transformers.LlamaModel(
        transformers.LlamaConfig(
            hidden_size=decoder.width,
            num_hidden_layers=decoder.layers,
            num_attention_heads=decoder.heads,
            num_key_value_heads=decoder.kv_heads,
            head_dim=decoder.head_dim,
            intermediate_size=decoder.mlp_dim,
            vocab_size=decoder.vocab_size,
        )
    ).eval()
    llama.load_state_dict(model.decoder.state_dict())
    length = CONFIG.max_text_tokens  # no padding: what the published model does
    images, proprio, ids, mask, positions = observation(model, length=length)
    table = model.decoder.embed_tokens
    head, head_parts = torch.nn.functional, model.action_head.model
    with torch.no_grad():
        visual = model.embed_visual(model.visual_tokens(images))
        state = model.proprio_projector(proprio)[:, None]
        parts = [table(torch.tensor([[1]])), visual, state, table(ids), torch.zeros(1, 6, 16)]
        embeddings = torch.cat([*parts, table(torch.tensor([[2]]))], dim=1)
        tokens = embeddings.shape[1]
        hidden = llama(inputs_embeds=embeddings, attention_mask=torch.zeros(1, 1, tokens, tokens))
        last_prompt = 1 + visual.shape[1] + 1 + length - 1
        states = hidden.last_hidden_state[:, last_prompt : last_prompt + 6].reshape(1, 2, 48)
        x = head.relu(head_parts["fc1"](head_parts["layer_norm1"](states)))
        for block in head_parts["mlp_resnet_blocks"]:
            x = x + block.ffn(x)
        expected = head_parts["fc2"](head_parts["layer_norm2"](x))
        found = model(images, proprio, ids, mask, positions)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_padding_changes_nothing() -> None:
    """Neither what stands in the padding, nor that there is any: the same weights without padding act the same."""
    model = tiny_model()
    images, proprio, ids, mask, positions = observation(model, length=4)
    other = ids.clone()
    other[:, 4:] = CONFIG.pad_id
    found = model(images, proprio, ids, mask, positions)
    assert torch.equal(found, model(images, proprio, other, mask, positions))
    short = OpenVlaOft(replace(CONFIG, max_text_tokens=4)).eval()
    short.load_state_dict(model.state_dict())
    expected = short(images, proprio, ids[:, :4], *short.sequence_inputs(torch.tensor([4])))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_a_batch_is_its_robots_one_by_one() -> None:
    model = tiny_model()
    inputs = observation(model, batch=3)
    lengths = torch.tensor([1, 4, 6])
    inputs = (*inputs[:3], *model.sequence_inputs(lengths))
    together = model(*inputs)
    for robot in range(3):
        alone = model(*(x[robot : robot + 1] for x in inputs))
        torch.testing.assert_close(together[robot : robot + 1], alone, atol=1e-5, rtol=1e-5)


def test_every_input_matters() -> None:
    model = tiny_model()
    images, proprio, ids, mask, positions = observation(model)
    actions = model(images, proprio, ids, mask, positions)
    for changed in (
        (255 - images, proprio, ids),
        (images.flip(1), proprio, ids),
        (images, -proprio, ids),
        (images, proprio, ids.flip(1)),
    ):
        assert (model(*changed, mask, positions) - actions).abs().max() > 1e-4


def test_training_reaches_every_weight_in_bfloat16() -> None:
    model = initialise(OpenVlaOft(CONFIG), 0)
    images, proprio, ids, mask, positions = observation(model, batch=2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = model.forward_from_tower(model.visual_tokens(images), proprio, ids, mask, positions)
        loss = outputs.actions.float().abs().mean()
    loss.backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []
    assert outputs.layout.take(outputs.hidden, "visual").shape == (2, 8, 16)
    assert outputs.action_states.shape == (2, 6, 16)


def test_two_towers_are_concatenated_and_projected_in_three_layers() -> None:
    fused = replace(CONFIG, towers=(CONFIG.towers[0], replace(CONFIG.towers[0], width=8)))
    model = initialise(OpenVlaOft(fused), 0)
    images, *rest = observation(model)
    assert model.visual_tokens(images).shape == (1, 8, 24)
    assert model.projector.depth == 3
    assert model(images, *rest).shape == (1, 2, 3)
    assert any(key.startswith("vision_backbone.fused_featurizer.") for key in model.state_dict())


def test_the_config_survives_its_file() -> None:
    assert config_from_json(json.loads(json.dumps(CONFIG.to_json()))) == CONFIG


def _text(**changes: object) -> dict[str, object]:
    return {"text_config": {**CONFIG.to_json()["text_config"], **changes}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "pi0"}, "expected model_type 'openvla_oft', found 'pi0'"),
        ({"vision_towers": [{**CONFIG.to_json()["vision_towers"][0], "colour": 1}]}, "found \\['colour'\\]"),
        ({"vision_towers": [{"width": 3}]}, "missing .* required"),
        ({"oft": {"views": 2}}, "expected in 'oft' the keys \\['chunk'"),
        ({"oft": {**CONFIG.to_json()["oft"], "use_film": True}}, "in 'oft' only .* found \\['use_film'\\]"),
        ({"image_resize_strategy": "letterbox"}, "expected 'resize-naive', found 'letterbox'"),
        ({"text_config": []}, "expected numbers and names that fit together"),
        (_text(num_attention_heads="five"), "expected numbers and names that fit together"),
        (_text(rope_scaling={"type": "linear", "factor": 4.0}), "rope_scaling: expected none"),
        (_text(rope_parameters={"rope_type": "llama3"}), "rope_type: expected 'default', found 'llama3'"),
        (_text(attention_bias=True), "attention_bias: expected none, found True"),
        (_text(pad_token_id=32000), "pad_id: expected a row of the embedding table, 0 to 10, found 32000"),
    ],
)
def test_a_wrong_config_is_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        config_from_json({**CONFIG.to_json(), **change})


def test_a_missing_llama_field_takes_the_class_default() -> None:
    value = CONFIG.to_json()
    del value["text_config"]["rms_norm_eps"]
    del value["text_config"]["rope_theta"]
    config = config_from_json(value).decoder
    assert (config.norm_eps, config.rope_theta) == (1e-6, 1e4)


def test_the_rotary_base_is_read_where_transformers_writes_it() -> None:
    value = CONFIG.to_json()
    written = transformers.LlamaConfig(rope_parameters={"rope_type": "default", "rope_theta": 5e5}).to_dict()
    del value["text_config"]["rope_theta"]
    value["text_config"]["rope_parameters"] = written["rope_parameters"]
    assert config_from_json(value).decoder.rope_theta == 5e5
