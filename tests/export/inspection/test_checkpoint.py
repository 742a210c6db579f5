"""``saccade inspect`` on a checkpoint of every family, whole and broken; no weight is ever read."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file

from saccade.export.inspection.checkpoint import inspect_checkpoint
from saccade.export.inspection.recognition import open_checkpoint, recognise
from saccade.export.loading.shards import StoredWeights
from saccade.proto.errors import CheckpointError, ExportError, PolicyError
from saccade.proto.inspection import CutPlace, InspectionRequest
from saccade.runtime.commands.main import main
from tests.export.inspection import full_size
from tests.export.inspection.tiny_checkpoints import WRITERS, edit

pytestmark = pytest.mark.usefixtures("tiny_variants")
Written = Callable[[str], Path]
QWEN = ("qwen2_5_vl", "qwen3_vl")
PARTS = {
    "pi0": "vision projector prefix denoise",
    "pi05": "vision projector prefix denoise",
    "smolvla": "vision projector prefix denoise",
    "openvla_oft": "vision projector decoder action_head",
    "openvla_oft, published": "vision projector decoder action_head",
}
ANSWERING = "vision projector prefill decode lm_head"


def request_for(family: str, **changes: Any) -> InspectionRequest:
    size = {"image_size": (27, 43)} if family in QWEN else {}
    return InspectionRequest(**{"reads_weights": family != "smolvla", **size, **changes})


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading a weight, of safetensors or of a head, fails."""

    def refuse(*_: object) -> None:
        raise AssertionError("a weight was read")

    monkeypatch.setattr(StoredWeights, "read", refuse)
    monkeypatch.setattr(torch._C.PyTorchFileReader, "get_storage_from_record", refuse)


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("family", WRITERS)
def test_every_family_is_recognised_and_described(written: Written, family: str) -> None:
    found = inspect_checkpoint(written(family), request_for(family))
    assert found.family == family.partition(", ")[0]
    assert found.kind == "checkpoint"
    assert " ".join(part.name for part in found.budgets[0].parts) == PARTS.get(family, ANSWERING)
    assert {"vision", "views", "decoder", "sequence"} <= set(found.facts)
    assert f"decoder layers 0 to {found.dimensions['decoder']['layers'] - 1}" in found.facts["cuts"]
    assert ("tower blocks" in found.facts["cuts"]) == (family in {"llava", "openvla_oft", "pi0", "pi05"})
    assert ("expert" in found.facts) == (family in {"pi0", "pi05", "smolvla"})
    full, *fewer = found.budgets
    assert (full.name, full.keep, full.keep_ratio) == ("full", found.visual_tokens, 1.0)
    assert fewer and all(budget.keep < full.keep for budget in fewer)
    macs = [sum(part.macs for part in budget.parts) for budget in found.budgets]
    assert macs == sorted(macs, reverse=True) and len(set(macs)) == len(macs)
    assert len(full.visual_by_layer) == found.dimensions["decoder"]["layers"]
    if family != "smolvla":
        assert "names and shapes fit" in found.facts["files"]


@pytest.mark.parametrize("family", WRITERS)
def test_policies_say_where_they_would_act(written: Written, family: str) -> None:
    fits = {fit.name: fit for fit in inspect_checkpoint(written(family), request_for(family)).policies}
    assert fits["vla_pruner"].fits and fits["vla_pruner"].acts[0].place == "decoder"
    assert fits["keep_all"].fits and fits["keep_all"].acts == ()
    assert fits["divprune"].acts == (CutPlace("decoder", 0),)
    is_patchwise = family in {"llava", "openvla", "openvla_oft", "openvla_oft, published", "pi0", "pi05"}
    assert fits["zero_tprune"].fits == is_patchwise
    if not is_patchwise:
        assert "rearranged or pooled" in fits["zero_tprune"].reason
        assert "\n" not in fits["zero_tprune"].reason and "<" not in fits["zero_tprune"].reason
    acts = family in {"openvla", "openvla_oft", "openvla_oft, published"}
    assert fits["vla_cache"].fits == acts  # it computes the same control step again and again
    if not acts:
        assert "keys of the last" in fits["vla_cache"].reason or "patches" in fits["vla_cache"].reason
    assert fits["adp"].fits == (acts or family in {"pi0", "pi05", "smolvla"})  # somebody's arm moves


def test_a_policy_is_counted_where_it_cuts(written: Written) -> None:
    folder = written("openvla_oft")
    entry = inspect_checkpoint(folder, InspectionRequest(keep_ratios=(0.5,)))
    deep = inspect_checkpoint(folder, InspectionRequest(keep_ratios=(0.5,), policy="random_keep"))
    assert entry.budgets[1].visual_by_layer == (4, 4, 4)
    assert deep.budgets[1].visual_by_layer == (8, 4, 4)
    assert deep.budgets[0].parts == entry.budgets[0].parts
    assert deep.budgets[1].parts[2].macs > entry.budgets[1].parts[2].macs
    assert any("where random_keep cuts them" in note for note in deep.notes)
    with pytest.raises(PolicyError, match="did you mean 'random_keep'"):
        inspect_checkpoint(folder, InspectionRequest(policy="random_kep"))
    with pytest.raises(ExportError, match=r"begins each prompt anew"):
        inspect_checkpoint(written("llava"), InspectionRequest(policy="vla_cache"))
    with pytest.raises(ExportError, match=r"above 0 and at most 1, found 1\.5"):
        inspect_checkpoint(folder, InspectionRequest(keep_ratios=(1.5,)))


def test_what_was_assumed_is_said(written: Written) -> None:
    notes = inspect_checkpoint(written("llava_next"), request_for("llava_next")).notes
    assert notes[0] == (
        "Assumed: 1 view (--views), room for 64 tokens of text (--text-tokens), pictures of 640x480 (--image-size), "
        "an answer of 64 tokens (--new-tokens)."
    )
    given = {"views": 2, "text_tokens": 9, "image_size": (40, 30), "new_tokens": 3}
    told = inspect_checkpoint(written("llava_next"), request_for("llava_next", **given))
    assert told.unit == "answer of 3 tokens"
    assert not any(note.startswith("Assumed") for note in told.notes)
    assert (
        inspect_checkpoint(written("smolvla"), request_for("smolvla", text_tokens=7))
        .notes[0]
        .startswith("Tokens")
    )


def test_a_published_oft_needs_no_embodiment_to_be_looked_at(written: Written, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(written("openvla_oft, published"), tmp_path / "oft"))
    (folder / "embodiment.json").unlink()
    found = inspect_checkpoint(folder, InspectionRequest())
    assert found.notes[0] == "Assumed: 2 views (--views), room for 64 tokens of text (--text-tokens)."
    assert found.facts["actions"] == "chunk of 8 x 7; proprioception 8"
    three = inspect_checkpoint(folder, InspectionRequest(views=3))
    assert three.visual_tokens == found.visual_tokens // 2 * 3


def test_openvla_with_several_data_sets_needs_no_choice_to_be_looked_at(tmp_path: Path) -> None:
    found = inspect_checkpoint(
        full_size.openvla(tmp_path / "openvla"), InspectionRequest(reads_weights=False)
    )
    assert found.unit == "action of 7 tokens"
    assert found.facts["actions"] == "7 tokens, one at a time"


@pytest.mark.parametrize(
    ("write", "parameters", "tokens"),
    [
        # Published sizes, without what is never built: pooling heads, blocks behind the one that is read.
        (full_size.openvla, 7.5e9, 256),
        (full_size.llava, 7.05e9, 576),
        (full_size.llava_video, 8.0e9, 1458),
    ],
)
def test_full_size_models_are_looked_at_by_their_configuration(
    tmp_path: Path, write: Callable[[Path], Path], parameters: float, tokens: int
) -> None:
    size = (384, 384) if write is full_size.llava_video else None
    request = InspectionRequest(reads_weights=False, image_size=size, keep_ratios=(1.0, 0.25))
    found = inspect_checkpoint(write(tmp_path / "full"), request)
    assert sum(found.parameters.values()) == pytest.approx(parameters, rel=0.01)
    assert found.visual_tokens == tokens


def test_llava_prefill_is_what_papers_print(tmp_path: Path) -> None:
    """TransPrune (2507.20630): "0.44 TFLOPs, 11.5 %" of 576 visual tokens, which are MACs."""
    folder = full_size.llava(tmp_path / "llava")
    opened = open_checkpoint(folder, InspectionRequest(reads_weights=False, text_tokens=1))
    found = inspect_checkpoint(folder, InspectionRequest(reads_weights=False, text_tokens=1))
    prefill = next(part for part in found.budgets[0].parts if part.name == "prefill")
    assert opened.model.layout.tokens == 577
    # One row of the last of 32 layers is computed here, all of them there.
    assert prefill.macs * 32 / 31 == pytest.approx(0.44e12 / 0.115, rel=0.015)


def _shard(folder: Path) -> None:
    (folder / "b.safetensors").unlink()


def _truncate(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def _rename(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("layers.0.mlp.up_proj.weight"))
    weights[name.replace("up_proj", "wrong")] = weights.pop(name)
    save_file(weights, folder / "model.safetensors")


def _pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("family", "harm", "message"),
    [
        ("openvla", _shard, r"expected shards beside it, found missing: b\.safetensors"),
        ("llava", _truncate, r"expected a whole safetensors file"),
        ("llava", _rename, r"missing: decoder\.layers\.0\.mlp\.up_proj\.weight and left over: .*wrong"),
        ("llava", _pickle, r"found pytorch_model\.bin: a pickle can run code"),
        ("llava", lambda folder: (folder / "model.safetensors").unlink(), r"model\.safetensors.*found neither"),
        ("llava", lambda folder: edit(folder, "config.json", model_type="bert"), r"found 'bert' .* nothing here runs"),
        ("llava", lambda folder: (folder / "config.json").write_text("{"), r"config\.json: expected JSON"),
        ("llava", lambda folder: (folder / "preprocessor_config.json").unlink(), r"preprocessor_config\.json"),
        ("pi0", lambda folder: edit(folder, "config.json", chunk_size="many"), r"chunk_size: expected int"),
        ("openvla_oft, published", lambda folder: (folder / "action_head--50000_checkpoint.pt").write_bytes(b"no"),
         r"found one that is broken or would run code"),
        ("openvla_oft", lambda folder: edit(folder, "config.json", oft=None), r"expected the key 'oft'"),
    ],
)  # fmt: skip
def test_a_broken_folder_is_named(
    written: Written, tmp_path: Path, family: str, harm: Callable[[Path], object], message: str
) -> None:
    folder = Path(shutil.copytree(written(family), tmp_path / "broken"))
    harm(folder)
    with pytest.raises(CheckpointError, match=message):
        inspect_checkpoint(folder, request_for(family))


def test_openpi_s_conversion_is_told_apart_by_its_weights(tmp_path: Path) -> None:
    for family, name in (("pi0", "action_time_mlp_in.weight"), ("pi05", "time_mlp_in.weight")):
        folder = tmp_path / family
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"action_horizon": 50, "action_dim": 32}))
        save_file({name: torch.zeros(1)}, folder / "model.safetensors")
        assert recognise(folder) == family


def inspected(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["inspect", *map(str, arguments)])


def test_the_command_takes_a_checkpoint(written: Written) -> None:
    result = inspected(written("openvla"), "--device", "agx-orin", "--keep", "0.25", "--policy", "fastv")
    assert result.exit_code == 0, result.output
    for part in (
        "family openvla",
        "One action of 7 tokens",
        "decode",
        "lm head",
        "Does pruning pay?",
        "fastv cuts",
    ):
        assert part in result.output
    found = json.loads(inspected(written("openvla"), "--config-only", "--json", "--views", "1").output)
    assert found["kind"] == "checkpoint" and "manifest" not in found
    assert found["notes"][-1] == "The weight files were not looked at."
    refused = inspected(written("openvla"), "--views", "2")
    assert refused.exit_code == 1 and "expected 1 view" in refused.output


def test_the_command_takes_a_size_as_cameras_name_it(written: Written) -> None:
    options = ("--config-only", "--json", "--image-size", "57x27")
    found = json.loads(inspected(written("qwen2_5_vl"), *options).output)
    asked = inspect_checkpoint(
        written("qwen2_5_vl"), request_for("qwen2_5_vl", image_size=(27, 57), reads_weights=False)
    )
    width, height = re.findall(r"(\d+)x(\d+) px", found["facts"]["vision"])[0]
    assert int(width) > int(height) and found["facts"] == asked.facts


@pytest.mark.parametrize("dtype", ["int4", "fp16"])
def test_the_sentence_of_openvla_is_the_notes(tmp_path: Path, dtype: str) -> None:
    """OpenVLA on Orin: int4 202 -> 140 ms (1.44x), fp16 489 -> 463 ms (1.06x), at 25 %."""
    folder = full_size.openvla(tmp_path / "openvla-7b")
    options = (
        "--config-only",
        "--device",
        "agx-orin",
        "--dtype",
        dtype,
        "--keep",
        "0.25",
        "--text-tokens",
        "30",
    )
    found = json.loads(inspected(folder, *options, "--json").output)["devices"][0]
    expected = {"int4": ("pruning pays, ", 1.44), "fp16": ("pruning pays little, ", 1.06)}[dtype]
    assert found["verdict"].startswith(expected[0])
    assert found["speedup"] == pytest.approx(expected[1], abs=0.03)
    assert "decode is bandwidth-bound" in found["verdict"]
