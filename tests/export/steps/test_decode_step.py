"""One decode step with a KV policy: against transformers, against a version by hand, and as an ONNX graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor

from saccade.export.bundle.tensorrt_rtx import check_tensorrt_rtx
from saccade.export.lowering.capture import GraphPorts, to_graph
from saccade.export.lowering.lint import lint
from saccade.export.models.decoder import Decoder, DecoderConfig
from saccade.export.steps.decode_step import DecodeStep, kv_shape
from saccade.export.steps.kv_cache import KEYS, POSITIONS, VALUES
from saccade.policies.base import Carry
from saccade.policies.kv.base import KeyPositions, KvPolicy, SlotAttention, SlotLogits
from saccade.policies.kv.slots import EMPTY
from saccade.policies.registry import KV_POLICIES, build_kv_policy
from saccade.proto.errors import ExportError
from saccade.proto.tensor_names import CARRY_OUTPUT_SUFFIX
from tests.export.decoding_by_hand import ByHand
from tests.policies.oracles_kv import ScissorhandsHead, SpAttenHead, TokenSelectLayer

CONFIG = DecoderConfig(
    width=16, layers=3, heads=4, kv_heads=2, head_dim=8, mlp_dim=24, vocab_size=11, causal=True
)
ROOMY: dict[str, dict[str, object]] = {
    "keep_all_kv": {},
    "scissorhands": {},
    "spatten_kv": {"evict": 3},
    "token_select": {"initial": 2, "top_k": 20, "local": 3},
}
"""Budgets that 20 tokens do not exceed, in a cache of 32 slots."""


def decoder_of(config: DecoderConfig = CONFIG) -> Decoder:
    torch.manual_seed(0)
    decoder = Decoder(config).eval()
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.normal_(0.0, 0.4)
    return decoder


def step_of(name: str, capacity: int, config: DecoderConfig = CONFIG, **options: object) -> DecodeStep:
    policy = build_kv_policy(name, options, kv_shape(config, capacity))
    return DecodeStep(decoder_of(config), policy).eval()


def filled(step: DecodeStep, keys: Tensor, values: Tensor) -> Carry:
    """A cache that holds a prompt, as a prefill computed it."""
    shape, tokens = step.policy.shape, keys.shape[3]
    rest = shape.capacity - tokens
    slots = F.pad(torch.arange(tokens), (0, rest), value=EMPTY)
    return {
        KEYS: F.pad(keys, (0, 0, 0, rest)),
        VALUES: F.pad(values, (0, 0, 0, rest)),
        POSITIONS: slots.expand(1, shape.layers, shape.kv_heads, -1),
    }


def ports_of(step: DecodeStep) -> GraphPorts:
    carry = tuple(spec.name for spec in step.carry_specs)
    following = tuple(name + CARRY_OUTPUT_SUFFIX for name in carry)
    return GraphPorts(("embeddings", "position_ids", *carry), ("hidden", *following))


def captured(step: DecodeStep) -> ir.Model:
    example = tokens(1), torch.zeros(1, 1, dtype=torch.int64), *step.initial_carry().values()
    return to_graph(step, example, ports_of(step), f"decode step with KV policy {step.policy.name!r}")


def tokens(count: int, batch: int = 1, seed: int = 1) -> Tensor:
    return torch.randn(batch, count, 16, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def decode(
    step: DecodeStep, embeddings: Tensor, carry: Carry | None = None, first: int = 0
) -> tuple[Tensor, Carry]:
    """Feed tokens one by one; return their hidden states and the last carry."""
    batch = embeddings.shape[0]
    carry = step.initial_carry(batch) if carry is None else carry
    found = []
    for index in range(embeddings.shape[1]):
        at = torch.full((batch, 1), first + index)
        hidden, carry = step.step(embeddings[:, index : index + 1], at, carry)
        found.append(hidden)
    return torch.cat(found, dim=1), carry


def reference_of(kind: str) -> Any:
    sizes = {
        "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
        "intermediate_size": 24, "vocab_size": 11, "rms_norm_eps": 1e-6,
    }  # fmt: skip
    model = getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**sizes)).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.4)
    return model


@pytest.mark.parametrize(("kind", "switches"), [("Llama", {}), ("Qwen3", {"qk_norm": True})])
@pytest.mark.parametrize("name", list(KV_POLICIES))
def test_within_the_budget_it_is_transformers_with_a_cache(
    kind: str, switches: dict[str, bool], name: str
) -> None:
    reference = reference_of(kind)
    step = step_of(name, 32, replace(CONFIG, **switches), **ROOMY[name])
    step.decoder.load_state_dict(reference.state_dict())
    embeddings = tokens(20, batch=2)
    cache = transformers.DynamicCache()
    expected = []
    with torch.no_grad():
        for index in range(20):
            one = embeddings[:, index : index + 1]
            expected.append(
                reference(inputs_embeds=one, past_key_values=cache, use_cache=True).last_hidden_state
            )
    found, carry = decode(step, embeddings)
    torch.testing.assert_close(found, torch.cat(expected, dim=1), atol=1e-5, rtol=1e-4)
    for number, layer in enumerate(cache.layers):
        torch.testing.assert_close(carry[KEYS][:, number, :, :20], layer.keys, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(carry[VALUES][:, number, :, :20], layer.values, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["scissorhands", "spatten_kv", "token_select"])
def test_a_prefilled_prompt_goes_on_as_if_it_had_been_decoded(name: str) -> None:
    reference, embeddings = reference_of("Llama"), tokens(16)
    step = step_of(name, 32, **ROOMY[name])
    step.decoder.load_state_dict(reference.state_dict())
    with torch.no_grad():
        prompt = reference(inputs_embeds=embeddings[:, :11], use_cache=True).past_key_values
    keys = torch.stack([layer.keys for layer in prompt.layers], dim=1)
    values = torch.stack([layer.values for layer in prompt.layers], dim=1)
    carry = {
        **step.initial_carry(),
        **filled(step, keys, values),
    }
    found, after = decode(step, embeddings[:, 11:], carry, first=11)
    expected, expected_after = decode(step, embeddings)
    torch.testing.assert_close(found, expected[:, 11:], atol=1e-5, rtol=1e-4)
    assert torch.equal(after[POSITIONS], expected_after[POSITIONS])


METHODS: dict[str, tuple[dict[str, object], Callable[[], Any], dict[str, Any]]] = {
    "scissorhands": (
        {"window": 7, "recent": 3, "evict_share": 0.34, "start": 1},
        lambda: ScissorhandsHead(budget=12, window=7, recent=3, evict=4, start=1),
        {"evicts": True, "sees_attention": True},
    ),
    "spatten_kv": (
        {"start": 2, "recent": 5, "evict": 2},
        lambda: SpAttenHead(start=2, important=5, recent=5, evict=2),
        {"evicts": True},
    ),
    "spatten_kv renumbered": (
        {"start": 2, "recent": 5, "evict": 2, "importance": "cumulative", "positions": "slots"},
        lambda: SpAttenHead(start=2, important=5, recent=5, evict=2, cumulative=True),
        {"evicts": True, "sees_attention": True, "renumbers": True},
    ),
    "token_select": (
        {"initial": 2, "top_k": 4, "local": 3, "threshold": 0.3},
        lambda: TokenSelectLayer(2, 4, 3, 0.3),
        {"evicts": False},
    ),
    "token_select renumbered": (
        {"initial": 2, "top_k": 4, "local": 3, "threshold": None, "positions": "slots"},
        lambda: TokenSelectLayer(2, 4, 3, None),
        {"evicts": False, "renumbers": True, "vote_distance": 3},
    ),
}
STEPS = 30


def method_step(method: str) -> DecodeStep:
    name = method.split(maxsplit=1)[0]
    return step_of(name, STEPS if name == "token_select" else 12, **METHODS[method][0])


@pytest.mark.parametrize("method", list(METHODS))
@torch.no_grad()
def test_beyond_the_budget_it_is_the_method_by_hand(method: str) -> None:
    step = method_step(method)
    _, oracle, how = METHODS[method]
    embeddings = tokens(STEPS)
    by_hand = ByHand(step.decoder, oracle, **how)
    expected = torch.stack([by_hand.step(embeddings[0, now], now) for now in range(STEPS)])
    found, carry = decode(step, embeddings)
    torch.testing.assert_close(found[0], expected, atol=2e-5, rtol=1e-4)
    for layer, heads in enumerate(by_hand.cache):
        for head, cache in enumerate(heads):
            assert sorted(set(carry[POSITIONS][0, layer, head].tolist()) - {EMPTY}) == sorted(cache)


@pytest.mark.parametrize("method", list(METHODS))
def test_the_budget_is_felt(method: str) -> None:
    """The test above compares something: with the whole sequence in sight the states are others."""
    embeddings = tokens(STEPS)
    found, _ = decode(method_step(method), embeddings)
    whole, _ = decode(step_of("scissorhands", STEPS + 1), embeddings)
    assert (found - whole)[:, -5:].abs().max() > 1e-3


@pytest.mark.parametrize("method", list(METHODS))
def test_the_graph_equals_pytorch_step_after_step(method: str) -> None:
    step = method_step(method)
    model = captured(step)
    receipt = lint(model, method)
    assert "Loop" not in receipt.ops and "ScatterElements" in receipt.ops
    session = onnxruntime.InferenceSession(
        ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    ports = ports_of(step)
    assert [node.name for node in session.get_inputs()] == list(ports.inputs)
    carry, embeddings = step.initial_carry(), tokens(STEPS)
    state = [tensor.numpy() for tensor in carry.values()]
    for now in range(STEPS):
        at = torch.tensor([[now]])
        with torch.no_grad():
            hidden, carry = step.step(embeddings[:, now : now + 1], at, carry)
        feeds = [embeddings[:, now : now + 1].numpy(), at.numpy(), *state]
        found, *state = session.run(ports.outputs, dict(zip(ports.inputs, feeds, strict=True)))
        np.testing.assert_allclose(found, hidden.numpy(), rtol=1e-3, atol=1e-4)
        for array, spec in zip(state, step.carry_specs, strict=True):
            if spec.dtype == "int64":
                np.testing.assert_array_equal(array, carry[spec.name].numpy())


@pytest.mark.tensorrt_rtx
@pytest.mark.parametrize("method", ["scissorhands", "spatten_kv renumbered", "token_select renumbered"])
def test_tensorrt_rtx_builds_the_graph(method: str, tmp_path: Path) -> None:
    graph = tmp_path / "decode.onnx"
    ir.save(captured(method_step(method)), graph)
    receipt = check_tensorrt_rtx(graph, ["SM89"])
    assert set(receipt.plans) == {"SM89"} and receipt.layers > 100


@pytest.mark.parametrize("method", ["scissorhands", "token_select"])
@torch.no_grad()
def test_a_robot_without_a_token_waits(method: str) -> None:
    step, embeddings = method_step(method), tokens(STEPS)
    expected, carry_alone = decode(step, embeddings)
    carry, found, fed = step.initial_carry(2), [], 0
    for turn in range(STEPS + 9):
        waits = turn % 4 == 1 and turn < 36
        at = torch.tensor([[turn if turn < 20 else EMPTY], [EMPTY if waits else fed]])
        pair = torch.cat([tokens(1, seed=turn + 50), embeddings[:, min(fed, STEPS - 1)][:, None]])
        hidden, carry = step.step(pair, at, carry)
        if not waits:
            found.append(hidden[1])
            fed += 1
    assert fed == STEPS
    torch.testing.assert_close(torch.cat(found), expected[0], atol=1e-5, rtol=1e-4)
    assert torch.equal(carry[POSITIONS][1:], carry_alone[POSITIONS])
    for spec in step.carry_specs[3:]:
        torch.testing.assert_close(carry[spec.name][1:], carry_alone[spec.name], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_waiting_robot_loses_nothing_even_beyond_its_budget() -> None:
    step = step_of("scissorhands", 16, budgets=[4, 8, 16], recent=2)
    cached = torch.ones(1, 3, 2, 10, 8)
    prompt = filled(step, cached, cached)
    before = {**step.initial_carry(), **prompt}
    _, waited = step.step(tokens(1), torch.tensor([[EMPTY]]), before)
    _, went_on = step.step(tokens(1), torch.tensor([[10]]), before)
    assert torch.equal(waited[POSITIONS], before[POSITIONS])
    assert (went_on[POSITIONS] >= 0).sum(dim=-1).tolist() == [[[9, 9], [7, 7], [11, 11]]]


@torch.no_grad()
def test_with_nothing_in_the_cache_the_result_is_finite() -> None:
    step = method_step("scissorhands")
    hidden, carry = step.step(tokens(1), torch.tensor([[EMPTY]]), step.initial_carry())
    assert torch.isfinite(hidden).all() and (carry[POSITIONS] == EMPTY).all()
    assert not any(carry[spec.name].any() for spec in step.carry_specs[3:])


@torch.no_grad()
def test_half_precision_models_cache_in_half_precision() -> None:
    step = method_step("spatten_kv")
    step.decoder.to(torch.bfloat16)
    assert [spec.dtype for spec in step.carry_specs] == ["bfloat16", "bfloat16", "int64"]
    found, carry = decode(step, tokens(20).to(torch.bfloat16))
    assert found.dtype == carry[KEYS].dtype == torch.bfloat16 and torch.isfinite(found).all()


def test_what_does_not_fit_is_refused() -> None:
    policy = build_kv_policy("spatten_kv", {}, kv_shape(CONFIG, 32))
    with pytest.raises(ExportError, match="expected a causal decoder"):
        DecodeStep(Decoder(replace(CONFIG, causal=False)), policy)
    with pytest.raises(ExportError, match="to be built for KvShape"):
        DecodeStep(Decoder(replace(CONFIG, layers=2)), policy)


@pytest.mark.parametrize(
    ("name", "signal", "positions", "message"),
    [
        ("token_select", SlotAttention(), KeyPositions.ORIGINAL, "not known before a choice"),
        ("spatten_kv", SlotLogits(distance=3), KeyPositions.ORIGINAL, "stand where they stand"),
        ("token_select", SlotLogits(), KeyPositions.SLOTS, "ask for a distance"),
    ],
)
def test_signals_that_do_not_exist_are_refused(
    name: str, signal: Any, positions: KeyPositions, message: str
) -> None:
    policy: KvPolicy = build_kv_policy(name, ROOMY[name], kv_shape(CONFIG, 32))
    policy.signals, policy.positions = (signal,), positions
    with pytest.raises(ExportError, match=message):
        DecodeStep(Decoder(CONFIG), policy)
