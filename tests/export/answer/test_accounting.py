"""The accounting of bundles that answer is what torch counts in the graphs' modules."""

from __future__ import annotations

import json
from typing import Any

import pytest

from saccade.export.answer import accounting as answering_accounting
from saccade.export.answer.accounting import account_answer
from saccade.export.answer.plan import AnsweringPlan
from saccade.export.bundle.profile_plan import plan_profiles
from saccade.export.families.deployment import Deployment
from saccade.export.families.prompts import Prompted, read_prompted
from saccade.export.steps.generation_step import GenerationStep
from saccade.export.steps.policy_checks import model_shape
from saccade.export.steps.prefill_step import PrefillStep
from saccade.policies.registry import build_policy
from saccade.proto.accounting import accounts_to_json
from saccade.proto.errors import ReceiptError
from tests.export.answer.test_pipeline import write_tokenizer
from tests.export.families.llava.test_llava import PROCESSOR, reference
from tests.export.families.published import save

NEW = 5


@pytest.fixture(scope="module")
def prompted(tmp_path_factory: pytest.TempPathFactory) -> Prompted:
    folder = save(reference(), tmp_path_factory.mktemp("published") / "llava-tiny", PROCESSOR)
    write_tokenizer(folder)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 2, "pad_token_id": 0}))
    return read_prompted(folder, Deployment(max_text_tokens=12))


def plans_of(
    prompted: Prompted, policy: str, ratios: tuple[float, ...], kv: str = "keep_all_kv", **options: object
) -> list[AnsweringPlan]:
    model, plans = prompted.model, []
    for profile in plan_profiles(ratios, model.grid.tokens):
        built = build_policy(policy, {}, model_shape(model))
        prefill = PrefillStep(model, built, profile.budget, new_tokens=NEW).eval()
        generation = GenerationStep(model, prefill.spans, kv, options).eval()
        plans.append(AnsweringPlan(profile, prefill, generation))
    return plans


def receipt_of(prompted: Prompted, plans: list[AnsweringPlan]) -> dict[str, Any]:
    return accounts_to_json({plan.profile.name: account_answer(prompted, plan, NEW) for plan in plans})


@pytest.mark.parametrize(
    ("policy", "ratios"),
    [("keep_all", (1.0,)), ("center_crop", (1.0, 0.5, 0.25)), ("random_keep", (1.0, 0.5))],
)
def test_what_multiplies_nothing_itself_leaves_nothing_unexplained(
    prompted: Prompted, policy: str, ratios: tuple[float, ...]
) -> None:
    receipt = receipt_of(prompted, plans_of(prompted, policy, ratios))
    for account in receipt.values():
        assert account["stages"]["selection"]["macs"] == 0
        assert account["macs"] == sum(stage["macs"] for stage in account["stages"].values())
        assert set(account["stages"]) == {
            "vision_tower", "projector", "prefill", "decode", "lm_head", "selection",
        }  # fmt: skip
        assert account["stages"]["decode"]["passes"] == NEW - 1
        assert account["ratio_to_full"] == account["macs"] / receipt["full"]["macs"] <= 1.0
    assert json.loads(json.dumps(receipt, allow_nan=False)).keys() == receipt.keys()


def test_a_policy_s_own_products_are_selection(prompted: Prompted) -> None:
    receipt = receipt_of(prompted, plans_of(prompted, "divprune", (1.0, 0.5)))
    assert receipt["full"]["stages"]["selection"]["macs"] == 0
    assert receipt["keep50"]["stages"]["selection"]["macs"] > 0
    assert receipt["keep50"]["visual_by_layer"] == [8, 8, 8]
    stages = receipt["keep50"]["stages"]
    assert stages["decode"]["kv_bytes"] < receipt["full"]["stages"]["decode"]["kv_bytes"]
    assert stages["decode"]["weight_bytes"] == receipt["full"]["stages"]["decode"]["weight_bytes"]


@pytest.mark.parametrize(
    ("kv", "options"),
    [
        ("token_select", {"initial": 1, "top_k": 2, "local": 1}),
        ("scissorhands", {}),
        ("spatten_kv", {}),
    ],
)
def test_a_policy_over_the_cache_multiplies_too(
    prompted: Prompted, kv: str, options: dict[str, object]
) -> None:
    plain = receipt_of(prompted, plans_of(prompted, "keep_all", (1.0,)))["full"]["stages"]
    found = receipt_of(prompted, plans_of(prompted, "keep_all", (1.0,), kv, **options))["full"]["stages"]
    assert found["selection"]["macs"] >= 0
    assert found["prefill"] == plain["prefill"]
    if kv == "token_select":
        assert found["selection"]["macs"] > 0 and found["decode"]["macs"] < plain["decode"]["macs"]


def test_formulas_that_do_not_fit_the_model_are_refused(
    prompted: Prompted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering_accounting, "count_macs", lambda module, inputs: 7)
    with pytest.raises(ReceiptError, match=r"MACs by formula and 35 in the module; the accounting is wrong"):
        receipt_of(prompted, plans_of(prompted, "keep_all", (1.0,)))
