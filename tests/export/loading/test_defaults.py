"""The frozen tables of class defaults against the installed classes, and what a file's fields become."""

from __future__ import annotations

from typing import Any

import pytest
import transformers
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLTextConfig
from transformers.models.qwen2_vl.configuration_qwen2_vl import Qwen2VLTextConfig
from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLTextConfig
from transformers.models.smolvlm.configuration_smolvlm import SmolVLMVisionConfig

from saccade.export.loading.json_fields import JsonFields
from saccade.export.loading.text_decoder import TEXT_MODELS, read_text_model, text_fields
from saccade.export.loading.vision_tower import TOWER_DEFAULTS, read_tower, tower_fields
from saccade.proto.errors import CheckpointError

TEXT_CLASSES: dict[str, Any] = {
    "llama": transformers.LlamaConfig,
    "mistral": transformers.MistralConfig,
    "gemma": transformers.GemmaConfig,
    "qwen2": transformers.Qwen2Config,
    "qwen2_vl_text": Qwen2VLTextConfig,
    "qwen2_5_vl_text": Qwen2_5_VLTextConfig,
    "qwen3_vl_text": Qwen3VLTextConfig,
}
TOWER_CLASSES: dict[str, Any] = {
    "clip_vision_model": transformers.CLIPVisionConfig,
    "siglip_vision_model": transformers.SiglipVisionConfig,
    "smolvlm_vision": SmolVLMVisionConfig,
}
ALWAYS_BIASED = {"qwen2", "qwen2_vl_text", "qwen2_5_vl_text"}
"""The bias is in the architecture, no field of the configuration."""
UNHEARD_OF = {"tie_word_embeddings", "attention_bias", "use_sliding_window"}
"""Switches that some classes do not have; they are off there."""


@pytest.mark.parametrize("model_type", TEXT_MODELS)
def test_text_defaults_are_those_of_the_class(model_type: str) -> None:
    config = TEXT_CLASSES[model_type]()
    assert config.model_type == model_type
    for name, value in TEXT_MODELS[model_type].defaults.items():
        if name == "rope_theta":
            assert config.rope_parameters["rope_theta"] == value
        elif name == "attention_bias" and model_type in ALWAYS_BIASED:
            assert value is True
        elif hasattr(config, name):
            assert getattr(config, name) == value, name
        else:
            assert name in UNHEARD_OF and value is False, name


@pytest.mark.parametrize("model_type", TEXT_MODELS)
def test_a_file_without_fields_is_the_class_default(model_type: str) -> None:
    config = TEXT_CLASSES[model_type]()
    decoder = read_text_model(text_fields(JsonFields({}, "x"), "text_config", model_type), model_type).decoder
    assert (decoder.width, decoder.layers, decoder.heads) == (
        config.hidden_size, config.num_hidden_layers, config.num_attention_heads,
    )  # fmt: skip
    assert decoder.kv_heads == config.num_key_value_heads and decoder.norm_eps == config.rms_norm_eps
    assert decoder.head_dim == (getattr(config, "head_dim", None) or decoder.width // decoder.heads)


@pytest.mark.parametrize("model_type", TOWER_DEFAULTS)
def test_tower_defaults_are_those_of_the_class(model_type: str) -> None:
    config = TOWER_CLASSES[model_type]()
    for name, value in TOWER_DEFAULTS[model_type].items():
        assert getattr(config, name) == value, name


@pytest.mark.parametrize(
    ("fields", "theta"),
    [
        ({"rope_theta": 5e5}, 5e5),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}, 1e6),
        ({"rope_scaling": {"type": "mrope", "mrope_section": [1]}, "rope_theta": 7e5}, 7e5),
        ({}, 1e4),
    ],
)
def test_the_rotary_base_is_found_in_old_and_new_files(fields: dict[str, Any], theta: float) -> None:
    found = read_text_model(JsonFields(fields, "x", TEXT_MODELS["llama"].defaults), "llama")
    assert found.decoder.rope_theta == theta


def test_windows_count_only_where_they_are_used() -> None:
    def window(model_type: str, **fields: object) -> int | None:
        return read_text_model(
            JsonFields(fields, "x", TEXT_MODELS[model_type].defaults), model_type
        ).most_tokens

    assert window("mistral") == 4096 and window("mistral", sliding_window=None) is None
    assert window("qwen2", sliding_window=32768) is None
    assert window("qwen2", sliding_window=32768, use_sliding_window=True) == 32768


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"rope_scaling": {"type": "linear", "factor": 2.0}},
            "rope_scaling: type: expected 'default' or 'mrope'",
        ),
        (
            {"rope_parameters": {"rope_type": "llama3"}},
            "rope_type: expected 'default' or 'mrope', found 'llama3'",
        ),
        ({"mlp_bias": True}, "mlp_bias: expected False, found True"),
        ({"hidden_act": "relu"}, "hidden_act: expected one of silu, .* found 'relu'"),
    ],
)
def test_what_would_change_the_model_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_text_model(JsonFields(fields, "x", TEXT_MODELS["llama"].defaults), "llama")


def test_an_unknown_text_model_or_tower_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"model_type: expected one of llama, .* found 'phi'"):
        text_fields(JsonFields({}, "x"), "text_config", "phi")
    with pytest.raises(CheckpointError, match=r"expected one of clip_vision_model, .* found 'vit'"):
        tower_fields(JsonFields({"vision_config": {"model_type": "vit"}}, "x"), "vision_config", {})


def test_a_tower_needs_three_channels() -> None:
    parent = JsonFields({"vision_config": {"model_type": "siglip_vision_model"}}, "x")
    fields = tower_fields(parent, "vision_config", {})
    tower = read_tower(fields, read_block=-2, final_norm=False, mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0))
    assert (tower.blocks, tower.side, tower.pixel_mean) == (11, 14, (0.1, 0.2, 0.3))
    with pytest.raises(CheckpointError, match="expected image mean and std of three channels"):
        read_tower(fields, read_block=-1, final_norm=True, mean=(0.5,), std=(0.5,))
