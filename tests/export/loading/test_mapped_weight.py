"""A mapped weight computes what a weight in memory computes, and is read only when something is computed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from saccade.export.loading.key_rules import KeyRules
from saccade.export.loading.mapped_weight import MAPPED_BYTES, MappedWeight
from saccade.export.loading.shards import StoredWeights
from saccade.export.loading.weights import load_weights
from saccade.proto.errors import CheckpointError

SIDE = 512
"""A matrix of this side is as large as a mapped weight is at least, in float32."""


class Model(nn.Module):
    """Every way in which models here use a large weight."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(SIDE, SIDE)
        self.fused = nn.Linear(SIDE, 3 * SIDE)
        self.patches = nn.Conv2d(SIDE // 4, SIDE, 2)
        self.scale = nn.Parameter(torch.ones(SIDE, SIDE))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.table(ids) + self.table.weight[3]
        x = self.fused(x).chunk(3, dim=-1)[1] * self.scale[: ids.shape[1]]
        kernel = self.patches.weight.permute(0, 2, 3, 1).flatten(1)
        return torch.nn.functional.linear(x, kernel, self.patches.bias) @ self.scale.t()


@pytest.fixture
def files(tmp_path: Path) -> StoredWeights:
    random = torch.Generator().manual_seed(0)
    stored = {
        name: torch.randn(value.shape, generator=random).to(torch.bfloat16) / 8
        for name, value in Model().state_dict().items()
    }
    fused = stored.pop("fused.weight").chunk(3)
    stored |= {f"{part}.weight": value.contiguous() for part, value in zip("qkv", fused, strict=True)}
    stored["norm_scale"] = stored.pop("scale")
    save_file(stored, tmp_path / "model.safetensors")
    return StoredWeights(tmp_path)


RULES = KeyRules(
    rename=(
        (r"^q\.weight$", "fused.weight#0"),
        (r"^k\.weight$", "fused.weight#1"),
        (r"^v\.weight$", "fused.weight#2"),
        (r"^norm_scale$", "scale"),
    ),
    one_plus=("^scale$",),
)


def loaded(files: StoredWeights, *, mapped: bool) -> Model:
    with torch.device("meta"):
        model = Model()
    load_weights(model, files, RULES, mapped=mapped)
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_computes_the_same_bits(files: StoredWeights, mode: Callable[[], torch.no_grad]) -> None:
    ids = torch.tensor([[1, 7, 511]])
    ours, theirs = loaded(files, mapped=True), loaded(files, mapped=False)
    large = {name for name, weight in ours.named_parameters() if isinstance(weight, MappedWeight)}
    assert large == {"table.weight", "fused.weight", "patches.weight", "scale"}
    with mode():
        found = ours(ids)
        assert type(found) is Tensor
        assert torch.equal(found, theirs(ids))


def test_nothing_is_read_before_it_is_used() -> None:
    reads = []

    def read() -> Tensor:
        reads.append(1)
        return torch.ones(2, 3)

    layer = nn.Linear(3, 2, bias=False, device="meta")
    layer.load_state_dict({"weight": MappedWeight((2, 3), read)}, assign=True)
    layer.eval().requires_grad_(False)
    assert (layer.weight.shape, layer.weight.dtype, layer.weight.nbytes) == ((2, 3), torch.float32, 24)
    assert repr(layer.weight) == "MappedWeight([2, 3])"
    assert not reads
    assert layer(torch.ones(1, 3)).tolist() == [[3.0, 3.0]]
    assert len(reads) == 1


def test_a_model_to_be_trained_takes_it_over() -> None:
    layer = nn.Linear(3, 2, bias=False)
    layer.load_state_dict({"weight": MappedWeight((2, 3), lambda: torch.ones(2, 3))})
    assert type(layer.weight) is nn.Parameter and layer.weight.requires_grad
    assert torch.equal(layer.weight, torch.ones(2, 3))


def test_a_row_does_not_keep_the_whole_in_memory() -> None:
    table = MappedWeight((1000, 8), lambda: torch.zeros(1000, 8))
    assert table[3].untyped_storage().nbytes() == 8 * 4


def test_a_float32_file_is_mapped_as_it_is(tmp_path: Path) -> None:
    weight = torch.randn(SIDE, SIDE)
    assert weight.nbytes >= MAPPED_BYTES
    save_file({"weight": weight}, tmp_path / "model.safetensors")
    layer = nn.Linear(SIDE, SIDE, bias=False, device="meta")
    load_weights(layer, StoredWeights(tmp_path), KeyRules(), mapped=True)
    assert type(layer.weight) is nn.Parameter
    assert torch.equal(layer.weight, weight)


def test_what_is_not_finite_is_refused_when_it_is_loaded(tmp_path: Path) -> None:
    weight = torch.zeros(SIDE, SIDE, dtype=torch.bfloat16)
    weight[-1, -1] = torch.nan
    save_file({"weight": weight}, tmp_path / "model.safetensors")
    layer = nn.Linear(SIDE, SIDE, bias=False, device="meta")
    with pytest.raises(CheckpointError, match="expected finite weights, found NaN or infinity in weight"):
        load_weights(layer, StoredWeights(tmp_path), KeyRules(), mapped=True)
