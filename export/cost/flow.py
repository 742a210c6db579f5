"""What a control step costs that draws its actions out of noise: the prefix once, the expert in every Euler step."""

from __future__ import annotations

from dataclasses import replace

from saccade.export.cost.accounting import compose_account, layer_tokens
from saccade.export.cost.formulas import StageAccount, StepAccount, parameters, products
from saccade.export.families.flow_family import FlowFamily
from saccade.export.models.cross_expert import CrossLayer
from saccade.export.steps.flow_step import FlowStep


def account_flow_step(step: FlowStep) -> StepAccount:
    """Return what a control step of a flow-matching family costs.

    ``decoder`` is the prefix, with what expert layers make of its keys and values once.

    Args:
        step: The model with the policy in it, after :meth:`FlowModel.fold`; only shapes are looked at.
    """
    family = step.family
    tokens = layer_tokens(step, last_rows=0)  # of the last, keys and values alone
    value_bytes = family.decoder.embed_tokens.weight.element_size()
    chunk, steps = family.flow.chunk, family.flow.steps
    suffix = len(family.suffix_order)
    expert = sum(_expert_layer_macs(family, index, layer.keys, suffix) for index, layer in enumerate(tokens))
    hoisted = _hoisted_products(family)
    heads = {
        "letterbox": StageAccount(family.grid.views * family.fit.macs, 0),
        "expert": StageAccount(
            steps * expert, value_bytes * (parameters(family.expert) - sum(hoisted)), steps
        ),
        "action_projections": StageAccount(
            steps * chunk * sum(map(products, family.action_parts)),
            value_bytes * sum(map(parameters, family.action_parts)),
            steps,
        ),
    }
    state = family.state_part
    columns = 0 if state is None else state.out_features * family.sizes.state_dim
    biases = 0 if state is None else state.out_features
    account = compose_account(step, tokens, own_macs=columns, own_weights=columns + biases, heads=heads)
    decoder = account.stages["decoder"]
    once = StageAccount(
        decoder.macs + sum(each * layer.keys for each, layer in zip(hoisted, tokens, strict=True)),
        decoder.weight_bytes + value_bytes * sum(hoisted),
    )
    return replace(account, stages={**account.stages, "decoder": once})


def _expert_layer_macs(family: FlowFamily, index: int, prefix: int, suffix: int) -> int:
    """MACs of one expert layer in one Euler step."""
    layer, config = family.expert.layers[index], family.decoder.config
    seen = prefix if isinstance(layer, CrossLayer) else prefix + suffix
    attention = 2 * suffix * seen * config.heads * config.head_dim
    names = (
        ("q_proj", "o_proj") if isinstance(layer, CrossLayer) else ("q_proj", "k_proj", "v_proj", "o_proj")
    )
    projections = sum(products(layer.get_submodule(f"self_attn.{name}")) for name in names)
    return attention + suffix * (projections + products(layer.get_submodule("mlp")))


def _hoisted_products(family: FlowFamily) -> list[int]:
    """Weights of what each expert layer makes of the prefix, once for all Euler steps."""
    return [
        products(layer.self_attn.k_proj) + products(layer.self_attn.v_proj)
        if isinstance(layer, CrossLayer)
        else 0
        for layer in family.expert.layers
    ]
