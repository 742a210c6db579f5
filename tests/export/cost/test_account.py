"""The formulas agree with what torch counts in the module, product for product: no tolerance.

torch counts while the module runs (or pretends to, without computing); the formulas look at nothing but shapes. What a
policy multiplies itself is the difference, and nothing else is.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from saccade.export.cost.account import account_step, cut_plan, formula_account
from saccade.export.cost.formulas import LayerTokens, decoder_layer_macs, decoder_layer_weights, tower_macs
from saccade.export.cost.torch_count import count_macs
from saccade.export.families.openvla_oft.config import OftConfig
from saccade.export.families.openvla_oft.model import OpenVlaOft, initialise
from saccade.export.models.decoder import Decoder, DecoderConfig
from saccade.export.models.vision_transformer import VisionConfig, VisionTransformer
from saccade.export.steps.policy_checks import model_shape
from saccade.export.steps.selecting_module import initial_state
from saccade.export.steps.single_pass_step import SinglePassStep
from saccade.policies.base import Behind, Carry, Cut, Place, Selection, SelectionInputs, TokenPolicy
from saccade.policies.config import PolicyConfig
from saccade.policies.registry import POLICIES, build_policy
from saccade.proto.accounting import accounts_from_json, accounts_to_json
from saccade.proto.errors import ReceiptError
from tests.export.policy_graphs import BUDGET, DEEP_CONFIG, deep_model, policy_step
from tests.export.samples import observation

OPENVLA_OFT = OftConfig(
    towers=(
        VisionConfig(
            image_size=224, patch_size=14, width=1024, depth=24, heads=16, mlp_dim=4096, read_block=-2,
            class_token=True, register_tokens=4, layer_scale=True, activation="gelu",
        ),
        VisionConfig(
            image_size=224, patch_size=14, width=1152, depth=27, heads=16, mlp_dim=4304, read_block=-2
        ),
    ),
    decoder=DecoderConfig(causal=False, vocab_size=32064),
    views=2, chunk=8, action_dim=7, proprio_dim=8, max_text_tokens=32,
)  # fmt: skip
COSTS_NO_PRODUCT = {"center_crop", "keep_all", "random_keep"}


def counted(module: torch.nn.Module, *inputs: torch.Tensor) -> int:
    """MACs that torch counts while the module really runs."""
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        module(*inputs)
    return counter.get_total_flops() // 2


@pytest.mark.parametrize(
    "config",
    [
        DecoderConfig(width=48, layers=3, heads=6, kv_heads=6, head_dim=8, mlp_dim=80, vocab_size=5),
        DecoderConfig(width=48, layers=2, heads=6, kv_heads=2, head_dim=16, mlp_dim=72, vocab_size=5),
        DecoderConfig(
            width=32, layers=2, heads=4, kv_heads=1, head_dim=8, qkv_bias=True, qk_norm=True, mlp_dim=8
        ),
    ],
)
def test_decoder_formulas_are_exact(config: DecoderConfig) -> None:
    decoder, tokens = Decoder(config), 11
    mask, positions = torch.ones(1, tokens, dtype=torch.bool), torch.arange(tokens).unsqueeze(0)
    found = counted(decoder, torch.randn(1, tokens, config.width), mask, positions)
    assert config.layers * decoder_layer_macs(config, LayerTokens(tokens, tokens, tokens)) == found
    parameters = sum(parameter.numel() for parameter in decoder.layers[0].parameters())
    assert decoder_layer_weights(config) == parameters


def test_a_layer_that_computes_few_rows_is_counted_exactly() -> None:
    config = DecoderConfig(width=48, layers=1, heads=6, kv_heads=2, head_dim=16, mlp_dim=72, vocab_size=5)
    decoder = Decoder(config)
    rotary = decoder.rotary(torch.arange(11).unsqueeze(0))
    bias = decoder.attention_bias(torch.ones(1, 11, dtype=torch.bool))
    hidden = torch.randn(1, 11, config.width)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        decoder.layers[0](hidden, rotary, bias, lambda x: x[:, :4])
    assert (
        decoder_layer_macs(config, LayerTokens(rows=4, computed=11, keys=11))
        == counter.get_total_flops() // 2
    )


def test_vision_formula_is_exact() -> None:
    config = DEEP_CONFIG.towers[0]
    tower = VisionTransformer(config)
    images = torch.randn(3, 3, config.image_size, config.image_size)
    assert tower_macs(config, 3, [config.tokens] * config.blocks) == counted(tower, images)


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_leaves_the_module_to_the_formulas(name: str) -> None:
    model, frame = deep_model(), observation(deep_model())
    full, step = policy_step(name, model.grid.tokens), policy_step(name)
    pruned = formula_account(step)
    assert count_macs(full, (*frame, *initial_state(full))) >= formula_account(full).macs
    selection = count_macs(step, (*frame, *initial_state(step))) - pruned.macs
    assert selection == 0 if name in COSTS_NO_PRODUCT else selection > 0
    assert count_macs(step, (*frame, *initial_state(step))) == counted(step, *frame, *initial_state(step))
    if name != "keep_all":
        assert pruned.macs < formula_account(full).macs
        assert pruned.mean_visual_tokens < model.grid.tokens


class KeepFirst(TokenPolicy):
    """Keeps the first tokens at each of its cuts and multiplies nothing."""

    name: ClassVar[str] = "keep_first"
    options = PolicyConfig

    def __init__(
        self, cuts: tuple[Cut, ...], counts: tuple[int, ...], heads: dict[int, tuple[int, ...]]
    ) -> None:
        self.config = PolicyConfig()
        self.cuts, self.removed_heads, self._counts = cuts, heads, counts

    def schedule(self, keep: int) -> tuple[int, ...]:
        return self._counts

    def select(self, inputs: SelectionInputs, carry: Carry, keep: int) -> Selection:
        return Selection(torch.arange(keep).expand(inputs.embeddings.shape[0], keep))


@pytest.mark.parametrize(
    ("cuts", "counts", "heads", "by_layer"),
    [
        ((Cut(Place.TOWER, 2),), (20,), {}, (20, 20, 20, 20, 20)),
        ((Cut(Place.PROJECTOR, 0),), (9,), {}, (9, 9, 9, 9, 9)),
        ((Cut(Place.DECODER, 0),), (9,), {}, (9, 9, 9, 9, 9)),
        ((Cut(Place.DECODER, 4),), (9,), {}, (32, 32, 32, 32, 9)),
        ((Cut(Place.DECODER, 1), Cut(Place.DECODER, 3)), (9, 0), {}, (32, 9, 9, 0, 0)),
        ((Cut(Place.DECODER, 0, (), Behind.LAST_STEP),), (9,), {}, (9, 9, 9, 9, 9)),
        (
            (Cut(Place.TOWER, 0, (), Behind.LAST_STEP), Cut(Place.DECODER, 1)),
            (10, 12),
            {},
            (32, 12, 12, 12, 12),
        ),
        ((Cut(Place.DECODER, 2),), (9,), {0: (1,), 4: (0, 2, 3)}, (32, 32, 9, 9, 9)),
        (
            (Cut(Place.TOWER, 1), Cut(Place.TOWER, 3), Cut(Place.PROJECTOR, 0), Cut(Place.DECODER, 2)),
            (30, 20, 9, 3),
            {},
            (9, 9, 3, 3, 3),
        ),
    ],
)
def test_cuts_anywhere_are_counted_exactly(
    cuts: tuple[Cut, ...],
    counts: tuple[int, ...],
    heads: dict[int, tuple[int, ...]],
    by_layer: tuple[int, ...],
) -> None:
    config = replace(DEEP_CONFIG, decoder=replace(DEEP_CONFIG.decoder, heads=4, kv_heads=4))
    model = initialise(OpenVlaOft(config), 0).eval()
    step = SinglePassStep(model, KeepFirst(cuts, counts, heads), 9)
    account = formula_account(step)
    assert account.macs == count_macs(step, (*observation(model), *initial_state(step)))
    assert account.visual_by_layer == by_layer
    assert account.mean_visual_tokens == pytest.approx(sum(by_layer) / 5)
    stored = accounts_to_json({"full": account})["full"]
    assert stored["mean_keep_ratio"] == pytest.approx(sum(by_layer) / 5 / 32)
    remembered = cuts[0].behind is Behind.LAST_STEP and cuts[0].place is Place.DECODER
    other = model.layout.tokens - 32
    lengths = [other + (32 if remembered else visual) for visual in by_layer]
    gone = [len(heads.get(layer, ())) for layer in range(5)]
    assert stored["kv_bytes"] == sum(
        2 * (4 - less) * 8 * length * 4 for less, length in zip(gone, lengths, strict=True)
    )


def test_weights_are_those_of_the_module() -> None:
    model = deep_model()
    account = formula_account(policy_step("keep_all"))
    table = model.decoder.embed_tokens.weight  # rows are looked up, the table is not read
    parameters = sum(parameter.numel() for parameter in model.parameters()) - table.numel()
    assert sum(part.weights for part in account.parts) == parameters


def test_the_receipt_adds_up() -> None:
    model, frame = deep_model(), observation(deep_model())
    steps = {"full": policy_step("vla_pruner", model.grid.tokens), "keep37.5": policy_step("vla_pruner")}
    receipt = accounts_to_json({name: account_step(step, frame) for name, step in steps.items()})
    assert list(receipt) == ["full", "keep37.5"]
    full, pruned = receipt["full"], receipt["keep37.5"]
    for name, account in receipt.items():
        assert account["macs"] == sum(stage["macs"] for stage in account["stages"].values())
        inputs = (*frame, *initial_state(steps[name]))
        assert account["macs"] == count_macs(steps[name], inputs)
    assert set(full["stages"]) == {"vision_tower", "projector", "decoder", "action_head", "selection"}
    assert (full["ratio_to_full"], full["mean_keep_ratio"]) == (1.0, 1.0)
    assert pruned["ratio_to_full"] == pruned["macs"] / full["macs"] < 1.0
    assert pruned["mean_visual_tokens"] == pytest.approx(sum(pruned["visual_by_layer"]) / 5)
    assert pruned["visual_by_layer"][-1] == BUDGET
    assert json.loads(json.dumps(receipt)) == receipt
    read = accounts_from_json(receipt, model.grid.tokens)
    assert accounts_to_json(read) == receipt


def test_formulas_that_do_not_fit_the_model_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saccade.export.cost.account.count_macs", lambda module, inputs: 7)
    with pytest.raises(ReceiptError, match=r"MACs by formula and 7 in the module; the accounting is wrong"):
        account_step(policy_step("keep_all"), observation(deep_model()))


def test_a_model_without_memory_for_its_weights_can_be_accounted() -> None:
    """OpenVLA-OFT on LIBERO, 7 billion weights that nobody loads."""
    with torch.device("meta"):
        model = OpenVlaOft(OPENVLA_OFT)
    step = SinglePassStep(model, build_policy("fastv", {"insertion_layer": 2}, model_shape(model)), 256)
    account = formula_account(step)
    assert account.visual_by_layer == (512,) * 2 + (256,) * 30
    assert cut_plan(step).layer_tokens(model.layout, 32, 56)[-1].rows == 56
    assert 7.2e9 < sum(part.weights for part in account.parts) < 7.8e9
    assert 0.8 < account.part("decoder").macs / account.macs < 0.95
