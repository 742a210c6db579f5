"""What the names of weights tell that do not fit."""

from __future__ import annotations

import pytest

from saccade.export.loading.strange_weights import strangeness


@pytest.mark.parametrize(
    ("missing", "leftover", "said"),
    [
        ((), ("model.layers.0.self_attn.q_proj.lora_A.weight",), "merge them"),
        (("q_proj.weight",), ("model.layers.0.self_attn.q_proj.base_layer.weight",), "merge them"),
        (("up_proj.weight",), ("model.layers.0.mlp.up_proj.qweight",), "before quantisation"),
        ((), ("model.layers.0.mlp.up_proj.weight_scale_inv",), "before quantisation"),
        ((), ("model.layers.0.mlp.up_proj.weight.quant_state.bitsandbytes__nf4",), "before quantisation"),
        (("a.weight",), ("b.weight",), "of another model, or of another version"),
        (("a.weight",), (), "copy the weight files again"),
        ((), ("action_expert.norm.weight",), "another model, which builds on it"),
    ],
)
def test_names_tell_what_to_do(missing: tuple[str, ...], leftover: tuple[str, ...], said: str) -> None:
    found = strangeness(missing, leftover)
    assert said in found and "correct" not in found
