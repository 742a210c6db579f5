"""A policy placed in the prefix of a model that draws actions out of noise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from saccade.export.control.calibration import PolicyBuilder
from saccade.export.cost.account import formula_account
from saccade.export.cost.torch_count import count_macs
from saccade.export.families.flow import LayerMemory, Observed
from saccade.export.families.flow_family import FlowFamily
from saccade.export.lowering.capture import to_graph
from saccade.export.models.cross_expert import CrossLayer
from saccade.export.models.decoder import repeat_heads
from saccade.export.models.expert import ExpertOutput
from saccade.export.steps.flow_step import FlowStep
from saccade.export.steps.policy_checks import model_shape
from saccade.export.steps.selecting_module import initial_state
from saccade.policies.base import Cut, Place
from saccade.policies.registry import POLICIES, build_policy
from saccade.policies.signals import AttentionAhead, AttentionReceived, Pixels, QueryRows
from saccade.proto.errors import ExportError
from saccade.proto.roofline import DENOISE, PREFIX, PROJECTOR, VISION
from tests.export.flow_models import observed, tiny_pi0, tiny_pi05, tiny_smolvla, unpruned
from tests.export.steps.test_single_pass_step import KEPT, KeepThese, keep_before

MODELS = {"pi0": tiny_pi0, "smolvla": tiny_smolvla}
ANY_MODEL = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
Make = Callable[[], FlowFamily]


def step_of(model: FlowFamily, policy: str, keep: int, **options: object) -> FlowStep:
    return FlowStep(model, build_policy(policy, options, model_shape(model)), keep).eval()


def masked(model: FlowFamily, given: tuple[Tensor, ...], layer: int) -> Tensor:
    """Actions where nobody sees dropped visual tokens from a layer on, though they are all there."""
    return model.read_actions(model.sample(given[-1], masked_memory(model, given, layer)))


def masked_memory(model: FlowFamily, given: tuple[Tensor, ...], layer: int) -> Observed:
    """What the expert reads there."""
    images, state, token_ids, mask, positions, _ = given
    tokens = model.layout.tokens
    whole = model.perceive(images, token_ids, mask[:, :tokens], positions[:, :tokens], state)
    kept = torch.zeros(len(images), model.layout.visual, dtype=torch.bool)
    kept[:, KEPT] = True
    alive = whole.mask & model.layout.replace_visual(torch.ones_like(whole.mask), kept)
    memory, hidden = [], whole.hidden
    for index, block in enumerate(model.decoder.layers):
        seen = alive if index >= layer else whole.mask
        bias = model.decoder.attention_bias(seen, whole.order, whole.order)
        output = block(hidden, model.decoder.rotary(whole.positions), bias)
        memory.append(LayerMemory(output.attention.key, output.attention.value, seen))
        hidden = output.hidden
    return model.observe(memory, positions[:, tokens:], model.embed_lead(state))


@ANY_MODEL
def test_keeping_every_token_is_the_unpruned_model(make: Make) -> None:
    model = make()
    given = observed(model, lengths=(3,))
    for policy in ("keep_all", "vla_pruner", "fastv"):
        step = step_of(model, policy, model.grid.tokens)
        assert torch.equal(step(*given, *initial_state(step))[0], unpruned(model, given))


@ANY_MODEL
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_dropped_tokens_are_as_good_as_masked(make: Make, layer: int) -> None:
    model = make()
    given = observed(model)
    actions, kept = FlowStep(model, keep_before(layer), len(KEPT))(*given)
    assert kept.tolist() == [KEPT, KEPT]
    torch.testing.assert_close(actions, masked(model, given, layer), atol=1e-5, rtol=1e-5)
    assert (actions - unpruned(model, given)).abs().max() > 1e-3


@ANY_MODEL
@pytest.mark.parametrize("layers", [(0,), (1, 2)])
def test_action_rows_are_those_of_the_expert(make: Make, layers: tuple[int, ...]) -> None:
    """Mean over heads, actions, layers and Euler steps of softmax attention over everything that an action sees."""
    model = make()
    given = observed(model)
    policy = keep_before(1, update=layers)
    FlowStep(model, policy, len(KEPT))(*given)
    assert policy.told is not None
    (found,) = policy.told.signals
    alive = [range(model.grid.tokens) if layers == (0,) else KEPT] * 2
    present = torch.zeros_like(found)
    for robot, tokens in enumerate(alive):
        present[robot, list(tokens)] = 1
    assert torch.equal(policy.told.present, present)
    assert (found[present == 0] == 0).all() and (found.sum(dim=1) < 1).all()
    expected = rows_by_hand(model, given, layers)
    torch.testing.assert_close(found[present == 1], expected[present == 1], atol=1e-6, rtol=1e-5)


def rows_by_hand(model: FlowFamily, given: tuple[Tensor, ...], layers: tuple[int, ...]) -> Tensor:
    """Attention of the actions to all visual tokens; those that were dropped before layer 1 are masked behind it."""
    total, prepared = torch.zeros(len(given[0]), model.grid.tokens), masked_memory(model, given, 1)

    def watch(index: int, output: ExpertOutput) -> None:
        if index in layers:
            lead = output.query.shape[2] - model.flow.chunk
            key = repeat_heads(output.key, output.query.shape[1] // output.key.shape[1])
            logits = output.query[:, :, lead:] @ key.transpose(2, 3) / 8**0.5
            bias = prepared.contexts[index].bias
            weights = (logits + (bias[:, :, lead:] if bias.shape[2] > 1 else bias)).softmax(dim=-1)
            total.add_(weights.mean(dim=(1, 2))[:, : model.grid.tokens])

    model.integrate(given[-1], prepared, watch)
    return total / (len(layers) * model.flow.steps)


@ANY_MODEL
def test_vla_pruner_prunes_after_its_warm_up(make: Make) -> None:
    """Which tokens survive follows from what the expert looked at."""
    model = make()
    keep = model.grid.tokens // 2
    full, pruned = step_of(model, "vla_pruner", model.grid.tokens), step_of(model, "vla_pruner", keep)
    given = observed(model, lengths=(4,))
    state = initial_state(full)
    for _ in range(3):
        _, _, history = full(*given, *state)
        state = (history,)
    assert torch.allclose(history.sum(dim=2), torch.ones(1, 3))
    actions, kept, _ = pruned(*given, history)
    assert kept.shape == (1, keep) and (actions - unpruned(model, given)).abs().max() > 1e-4
    other = pruned(*given, history.flip(2))[1]
    assert not torch.equal(kept, other)


@ANY_MODEL
def test_formulas_are_what_torch_counts(make: Make) -> None:
    model = make()
    given = observed(model, lengths=(3,))
    tokens = model.grid.tokens
    whole = step_of(model, "keep_all", tokens)
    assert formula_account(whole).macs == count_macs(whole, (*given, *initial_state(whole)))
    for layer in (0, 2):
        step = FlowStep(model, keep_before(layer), len(KEPT))
        account = formula_account(step)
        assert account.macs == count_macs(step, (*given, *initial_state(step))) < formula_account(whole).macs
        layers = model.decoder.config.layers
        assert account.visual_by_layer == (tokens,) * layer + (len(KEPT),) * (layers - layer)
    step = step_of(model, "vla_pruner", tokens // 2)
    assert (
        count_macs(step, (*given, *initial_state(step))) > formula_account(step).macs
    )  # the expert's rows are the policy's own


@pytest.mark.parametrize("make", [tiny_pi0, tiny_pi05, tiny_smolvla])
@pytest.mark.parametrize("policy", ["keep_all", "vla_pruner"])
def test_weights_are_counted_that_the_graph_holds(make: Make, policy: str) -> None:
    """Every stage reads as many bytes as the graph's initialisers made of its weights; weights are all unlike."""
    model = make()
    step = step_of(model, policy, model.grid.tokens)
    images, state, *rest = observed(model, lengths=(3,))
    given = (images, *([state] if "proprio" in model.host_inputs else []), *rest)
    graph = to_graph(step, (*given, *initial_state(step)), step.ports, "a step").graph
    stored = [value.const_value.numpy() for value in graph.initializers.values() if value.const_value]
    crossing = [layer.self_attn for layer in model.expert.layers if isinstance(layer, CrossLayer)]
    hoisted = [part for attention in crossing for part in (attention.k_proj, attention.v_proj)]
    once = {id(weight) for part in hoisted for weight in part.parameters()}
    parts = {
        VISION: [model.vision],
        PROJECTOR: [model.projector, *([] if model.state_part is None else [model.state_part])],
        PREFIX: [model.decoder.layers, *hoisted],
        DENOISE: [model.expert, *model.action_parts],
    }
    read = {part.name: part.weights for part in formula_account(step).parts}
    for name, modules in parts.items():
        weights = [
            weight.numpy().ravel()
            for module in modules
            for weight in module.parameters()
            if name != DENOISE or id(weight) not in once
        ]
        known = np.concatenate(weights)
        found = sum(array.nbytes for array in stored if array.size > 1 and np.isin(array, known).all())
        assert 4 * read[name] == found > 0, name
    assert set(read) == set(parts)


def test_what_there_is_not_before_the_expert_is_refused() -> None:
    model = tiny_pi0()
    with pytest.raises(ExportError, match="expected dropped tokens to be gone, found keys of the last step"):
        step_of(model, "vla_cache", 4)
    for signal in (AttentionReceived(QueryRows.ACTION, (0,)), AttentionAhead(QueryRows.ACTION)):
        with pytest.raises(ExportError, match="expected rows of text, found those of actions"):
            FlowStep(model, KeepThese(Cut(Place.DECODER, 1, (signal,))), 3)
    with pytest.raises(ExportError, match=r"expected options that need no calibration, .* nothing measures"):
        PolicyBuilder(model, []).build("todre", {"stage2": "auto"})


def test_patches_are_visual_tokens_only_where_none_are_pooled() -> None:
    policy = KeepThese(Cut(Place.DECODER, 0, (Pixels(),)))
    FlowStep(tiny_pi0(), policy, 3)(*observed(tiny_pi0()))
    assert policy.seen is not None and policy.seen.signals[0].shape == (2, 32, 75)
    with pytest.raises(ExportError, match="expected visual tokens that are the tower's patches"):
        FlowStep(tiny_smolvla(), policy, 3)


def test_the_graph_holds_each_weight_once_and_none_that_nobody_reads() -> None:
    """Euler steps share the expert's weights; of the last prefix layer only keys and values are computed."""
    model = tiny_pi0(mlp_dim=136)
    layers, width, expert_width, steps = 3, 24, 16, model.flow.steps
    step = step_of(model, "keep_all", model.grid.tokens)
    graph = to_graph(step, observed(model, lengths=(3,)), step.ports, "a step").graph
    shapes = Counter(tuple(value.const_value.shape) for value in graph.initializers.values())
    assert steps > 1 and shapes[expert_width, 136] == 2 * layers and shapes[136, expert_width] == layers
    assert shapes[width, 136] == 2 * (layers - 1) and shapes[136, width] == layers - 1


REFUSED = {
    "pi0": {"vla_cache"},
    "smolvla": {"foveate", "vla_cache", "zero_tprune"},
}
"""Policies that ask for keys of the last step, or cut among patches where visual tokens are squares of them."""


@pytest.mark.parametrize("name", sorted(POLICIES.keys() - {"keep_all"}))
@pytest.mark.parametrize("family", MODELS)
def test_every_policy_runs_or_is_refused_with_a_reason(family: str, name: str) -> None:
    model = MODELS[family]()
    keep = model.grid.tokens // 2
    if name in REFUSED[family]:
        with pytest.raises(ExportError, match=r"keys of the last step|no cut inside the tower"):
            step_of(model, name, keep)
        return
    step, given = step_of(model, name, keep), observed(model, lengths=(3,))
    actions, kept, *_ = step(*given, *initial_state(step))
    assert actions.isfinite().all() and kept.shape == (1, step.survivors) and step.survivors <= keep
    assert (actions - unpruned(model, given)).abs().max() > 1e-4
