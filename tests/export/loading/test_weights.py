"""Stored weights come to our names by rules; what does not fit is named, and nothing is read before all fits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from saccade.export.loading.key_rules import KeyRules, numbered
from saccade.export.loading.shards import StoredWeights
from saccade.export.loading.weights import load_weights, plan_weights
from saccade.proto.errors import CheckpointError

RULES = KeyRules(
    rename=(
        (r"^model\.", ""),
        (r"\.([qkv])_proj\.", r".qkv_\1."),
        (r"\.qkv_q\.(.*)$", r".qkv.\1#0"),
        (r"\.qkv_k\.(.*)$", r".qkv.\1#1"),
        (r"\.qkv_v\.(.*)$", r".qkv.\1#2"),
    ),
    unused=(*numbered("layers", 1, 3), r"^pooler\."),
    one_plus=(r"norm\.weight$",),
    ties={"head.weight": "embed.weight"},
)
WANTED = {
    "embed.weight": (5, 4),
    "head.weight": (5, 4),
    "layers.0.qkv.weight": (12, 4),
    "norm.weight": (4,),
    "table": (1, 2, 4),
}


def stored() -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(0)
    shapes = {
        "module.model.embed.weight": (5, 4),
        "model.layers.0.q_proj.weight": (4, 4),
        "model.layers.0.k_proj.weight": (4, 4),
        "model.layers.0.v_proj.weight": (4, 4),
        "model.layers.1.q_proj.weight": (4, 4),
        "model.norm.weight": (4,),
        "table": (2, 4),
        "pooler.weight": (3,),
        "model.rotary_emb.inv_freq": (2,),
    }
    return {name: torch.randn(shape, generator=random) for name, shape in shapes.items()}


def saved(folder: Path, weights: dict[str, Tensor]) -> StoredWeights:
    save_file(weights, folder / "model.safetensors")
    return StoredWeights(folder)


def test_parts_are_joined_norms_get_their_one_and_ties_are_shared(tmp_path: Path) -> None:
    weights = stored()
    files = saved(tmp_path, weights)
    read = {name: plan.read(files) for name, plan in plan_weights(WANTED, files, RULES).items()}
    parts = [weights[f"model.layers.0.{part}_proj.weight"] for part in "qkv"]
    assert torch.equal(read["layers.0.qkv.weight"], torch.cat(parts))
    assert torch.equal(read["norm.weight"], weights["model.norm.weight"] + 1)
    assert torch.equal(read["head.weight"], weights["module.model.embed.weight"])
    assert torch.equal(read["table"], weights["table"][None])


def test_a_head_that_is_stored_is_not_replaced_by_its_tie(tmp_path: Path) -> None:
    head = torch.ones(5, 4)
    files = saved(tmp_path, {**stored(), "head.weight": head})
    assert torch.equal(plan_weights(WANTED, files, RULES)["head.weight"].read(files), head)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.norm.weight": None}, "found missing: norm.weight and left over: none"),
        ({"stray": (1,)}, "found missing: none and left over: stray"),
        ({"model.layers.3.q_proj.weight": (4, 4)}, r"left over: model\.layers\.3\.q_proj\.weight"),
        ({"norm.weight": (4,)}, r"expected each weight once, found 'norm.weight' as"),
        ({"table": (4, 2)}, r"wrong: table \(expected \[1, 2, 4\], found \[4, 2\]\)"),
        ({"model.layers.0.k_proj.weight": (4, 3)}, r"layers\.0\.qkv\.weight \(expected parts alike, found"),
        ({"model.layers.0.v_proj.weight": None}, r"expected \[12, 4\], found \[8, 4\]"),
    ],
)
def test_what_does_not_fit_is_named(
    tmp_path: Path, changes: dict[str, tuple[int, ...] | None], message: str
) -> None:
    weights = stored()
    for name, shape in changes.items():
        if shape is None:
            del weights[name]
        else:
            weights[name] = torch.zeros(shape)
    with pytest.raises(CheckpointError, match=message):
        plan_weights(WANTED, saved(tmp_path, weights), RULES)


def test_a_weight_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    model = nn.Linear(2, 2, bias=False, device="meta")
    files = saved(tmp_path, {"weight": torch.tensor([[0.0, torch.inf], [0.0, 0.0]])})
    with pytest.raises(CheckpointError, match="expected finite weights, found NaN or infinity in weight"):
        load_weights(model, files, KeyRules())


def test_what_the_index_lists_must_be_there_once(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "one.safetensors")
    save_file({"b": torch.zeros(1)}, tmp_path / "two.safetensors")
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors", "c": "two.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="expected in the shards what it lists, found missing: c"):
        StoredWeights(tmp_path)
    save_file({"a": torch.zeros(1), "c": torch.zeros(1)}, tmp_path / "two.safetensors")
    with pytest.raises(CheckpointError, match=r"expected each weight once, found 'a' in two\.safetensors"):
        StoredWeights(tmp_path)


def test_reading_maps_the_file_and_converts_what_is_small(tmp_path: Path) -> None:
    half = torch.arange(6, dtype=torch.bfloat16).reshape(2, 3)
    files = saved(tmp_path, {"weight": half})
    assert files.shape("weight") == (2, 3) and len(files) == 1
    assert files.read("weight").dtype is torch.bfloat16
    plan = plan_weights({"weight": (2, 3)}, files, KeyRules())["weight"]
    assert torch.equal(plan.read(files), half.float())


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("kind", [torch.int8, torch.float8_e4m3fn])
def test_quantised_weights_are_refused_before_any_is_used(
    tmp_path: Path, kind: torch.dtype, *, mapped: bool
) -> None:
    files = saved(tmp_path, {"weight": torch.ones(1024, 1100).to(kind)})
    model = nn.Linear(1100, 1024, bias=False)
    with pytest.raises(
        CheckpointError, match=r"weight: expected float32, .* quantised checkpoints are not read"
    ):
        load_weights(model, files, KeyRules(), mapped=mapped)
