"""fastv keeps what the chosen rows of an early layer attend to."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from saccade.export.families.openvla_oft.model import OpenVlaOft
from saccade.export.steps.policy_checks import model_shape
from saccade.policies.base import ModelShape, Place
from saccade.policies.conformance import TokenPolicyConformance
from saccade.policies.registry import build_policy
from saccade.policies.signals import AttentionReceived, QueryRows
from saccade.policies.testing.dry_run import GRID, SHAPE, draw_scene, play
from saccade.proto.errors import PolicyError
from tests.export.samples import observation
from tests.policies import oracles
from tests.policies.deep_model import Recorded, deep_model


class TestFastV(TokenPolicyConformance):
    policy_name = "fastv"


class TestFastVLastRow(TokenPolicyConformance):
    policy_name = "fastv"
    policy_options = {"rows": "last", "insertion_layer": 7}


class TestFastVWithoutSinks(TokenPolicyConformance):
    policy_name = "fastv"
    policy_options = {"exclude_sinks": 0.02}


@given(
    values=st.lists(st.sampled_from([0.0, 0.1, 0.2, float("nan")]), min_size=80, max_size=80),
    keep=st.integers(1, GRID.tokens - 1),
)
def test_selection_equals_the_oracle_on_ties_and_nan(values: list[float], keep: int) -> None:
    policy = build_policy("fastv", {}, SHAPE)
    scene = draw_scene(policy, 0, batch=2)
    scene.signals[0].copy_(torch.tensor(values).reshape(2, 40))
    kept = play(policy, scene, {}, keep).kept
    assert kept.tolist() == [oracles.top_k(row.numpy(), keep) for row in scene.signals[0]]


@pytest.mark.parametrize(("layers", "cut"), [(32, 2), (18, 1), (48, 3), (5, 1), (2, 1)])
@pytest.mark.parametrize("rows", ["text", "last", "all"])
def test_reads_the_layer_before_the_papers_cut(layers: int, cut: int, rows: str) -> None:
    policy = build_policy("fastv", {"rows": rows}, ModelShape(layers, GRID, causal=True))
    assert policy.config.as_dict() == {"insertion_layer": cut, "rows": rows, "exclude_sinks": "off"}
    (only,) = policy.cuts
    assert (only.place, only.index) == (Place.DECODER, cut)
    assert only.signals == (AttentionReceived(QueryRows(rows), (cut - 1,)),)


def attention_of(model: OpenVlaOft, inputs: tuple[Tensor, ...], layer: int) -> Tensor:
    """Head mean of one decoder layer's softmax attention, ``(batch, rows, keys)``, by hand."""
    images, proprio, ids, mask, positions = inputs
    decoder = model.decoder
    hidden = model.embed(model.embed_visual(model.visual_tokens(images)), proprio, ids)
    for index in range(layer + 1):
        output = decoder.layers[index](hidden, decoder.rotary(positions), decoder.attention_bias(mask))
        hidden = output.hidden
    query, key = output.attention.query, output.attention.key
    logits = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    return logits.masked_fill(~mask[:, None, None], float("-inf")).softmax(dim=-1).mean(dim=1)


@pytest.mark.parametrize("rows", ["text", "last", "all"])
def test_placed_in_a_model_it_sees_the_rows_that_it_names(rows: str) -> None:
    model = deep_model()
    inputs = observation(model, batch=2, length=3)
    policy = build_policy("fastv", {"rows": rows, "insertion_layer": 3}, model_shape(model))
    recorded = Recorded(model, policy, 6)
    out = recorded.run(inputs)
    weights, mask, span = attention_of(model, inputs, layer=2), inputs[3], model.layout.span("text")
    text = range(span.start, span.start + 3)
    chosen = {
        "text": [list(text)] * 2,
        "last": [[text[-1]]] * 2,
        "all": [mask[robot].nonzero().flatten().tolist() for robot in range(2)],
    }[rows]
    for robot, own in enumerate(chosen):
        received = weights[robot, own].mean(dim=0)[model.layout.span("visual")]
        torch.testing.assert_close(recorded.seen[0][0].signals[0][robot], received, atol=1e-6, rtol=1e-4)
        assert out.kept[robot].tolist() == oracles.top_k(received.numpy(), 6)
    assert torch.isfinite(out.actions).all()


@pytest.mark.parametrize("layer", [0, 8])
def test_a_layer_outside_of_the_decoder_is_refused(layer: int) -> None:
    with pytest.raises(PolicyError, match=r"'insertion_layer' must be in 1\.\.7 for a decoder of 8 layers"):
        build_policy("fastv", {"insertion_layer": layer}, SHAPE)
