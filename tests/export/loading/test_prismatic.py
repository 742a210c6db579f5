"""What published files of OpenVLA and OpenVLA-OFT say, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.key_rules import KeyRules
from saccade.export.loading.prismatic import TIMM_TOWERS, key_rules, read_prismatic
from saccade.export.models.vision_transformer import VisionTransformer
from saccade.proto.errors import CheckpointError

DINOV2, SIGLIP = "vit_large_patch14_reg4_dinov2.lvd142m", "vit_so400m_patch14_siglip_224"
CONFIG = {
    "model_type": "openvla",
    "arch_specifier": "no-align+fused-gelu-mlp",
    "image_resize_strategy": "resize-naive",
    "image_sizes": [224, 224],
    "llm_backbone_id": "llama2-7b-pure",
    "text_config": {"model_type": "llama", "pad_token_id": 32000, "vocab_size": 32064},
    "timm_model_ids": [DINOV2, SIGLIP],
    "timm_override_act_layers": [None, None],
    "use_fused_vision_backbone": True,
}
"""What the published file has, where it matters."""
PROCESSOR = {
    "image_resize_strategy": "resize-naive",
    "input_sizes": [[3, 224, 224], [3, 224, 224]],
    "means": [[0.485, 0.456, 0.406], [0.5, 0.5, 0.5]],
    "stds": [[0.229, 0.224, 0.225], [0.5, 0.5, 0.5]],
}
APPLIED = [
    {"mean": [0.484375, 0.455078125, 0.40625], "std": [0.228515625, 0.2236328125, 0.224609375]},
    {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
]


def write(folder: Path, config: dict[str, Any], processor: dict[str, Any] = PROCESSOR) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def test_what_the_published_files_leave_out_is_the_class_default(tmp_path: Path) -> None:
    model = read_prismatic(CheckpointFolder(write(tmp_path, CONFIG)), causal=True)
    decoder = model.text.decoder
    assert (decoder.width, decoder.layers, decoder.heads, decoder.kv_heads) == (4096, 32, 32, 32)
    assert (decoder.head_dim, decoder.mlp_dim, decoder.norm_eps, decoder.rope_theta) == (
        128,
        11008,
        1e-6,
        1e4,
    )
    assert (decoder.vocab_size, decoder.causal, model.text.is_tied) == (32064, True, False)
    assert (model.bos_id, model.eos_id, model.pad_id) == (1, 2, 32000)
    assert (model.action_end, model.action_edges) == (32000, 256)
    assert [(tower.tokens, tower.width, tower.blocks) for tower in model.towers] == [
        (256, 1024, 23),
        (256, 1152, 26),
    ]
    assert not read_prismatic(CheckpointFolder(tmp_path), causal=False).text.decoder.causal


@pytest.mark.parametrize(
    ("name", "size", "parameters"),
    [
        ("vit_large_patch14_reg4_dinov2", 224, 290_630_656),
        ("vit_so400m_patch14_siglip_224", 224, 397_200_544),
        ("vit_so400m_patch14_siglip_384", 384, 397_745_440),
    ],
)
def test_towers_have_the_size_of_those_that_timm_builds(name: str, size: int, parameters: int) -> None:
    """Counted in timm 1.0.31 without the last block, the final norm and the pooling."""
    with torch.device("meta"):
        tower = VisionTransformer(replace(TIMM_TOWERS[name], image_size=size))
    assert sum(weight.numel() for weight in tower.parameters()) == parameters


def test_pixels_are_scaled_as_the_published_processor_does_it(tmp_path: Path) -> None:
    """By its cached numbers, which went through bfloat16; by means and deviations where it has none."""
    towers = read_prismatic(
        CheckpointFolder(write(tmp_path, CONFIG, {**PROCESSOR, "tvf_normalize_params": APPLIED})), causal=True
    ).towers
    assert towers[0].pixel_mean == (0.484375, 0.455078125, 0.40625)
    assert towers[0].pixel_std == (0.228515625, 0.2236328125, 0.224609375)
    assert towers[1].pixel_mean == (0.5, 0.5, 0.5)
    towers = read_prismatic(CheckpointFolder(write(tmp_path, CONFIG)), causal=True).towers
    assert (towers[0].pixel_mean, towers[0].pixel_std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_one_tower_is_not_fused(tmp_path: Path) -> None:
    config = {
        **CONFIG,
        "arch_specifier": "full-align+gelu-mlp",
        "image_sizes": [384],
        "timm_model_ids": ["vit_so400m_patch14_siglip_384"],
        "use_fused_vision_backbone": False,
    }
    del config["timm_override_act_layers"]
    processor = {key: value[1:] if isinstance(value, list) else value for key, value in PROCESSOR.items()}
    (tower,) = read_prismatic(
        CheckpointFolder(write(tmp_path, config, {**processor, "input_sizes": [[3, 384, 384]]})), causal=True
    ).towers
    assert (tower.side, tower.read_block, tower.final_norm) == (27, -2, False)


def test_dimensions_may_be_overridden_for_each_tower(tmp_path: Path) -> None:
    tiny = [{"width": 32, "depth": 3, "heads": 4, "mlp_dim": 64}, {}]
    first, second = read_prismatic(
        CheckpointFolder(write(tmp_path, {**CONFIG, "vision_towers": tiny})), causal=True
    ).towers
    assert (first.width, first.depth, first.heads, first.mlp_dim, first.register_tokens) == (32, 3, 4, 64, 4)
    assert (second.width, second.depth) == (1152, 27)


def test_names_of_towers_are_brought_to_one_form(tmp_path: Path) -> None:
    rules = key_rules(
        read_prismatic(CheckpointFolder(write(tmp_path, CONFIG)), causal=True).towers, KeyRules()
    )
    stored = "vision_backbone.featurizer.blocks.0.ls1.gamma"
    assert rules.ours(stored).name == "vision_backbone.featurizer.blocks.0.ls1.scale_factor"
    unused = {
        "featurizer.blocks.23.norm1.weight": True,
        "featurizer.blocks.22.norm1.weight": False,
        "fused_featurizer.blocks.26.mlp.fc1.bias": True,
        "fused_featurizer.blocks.25.mlp.fc1.bias": False,
        "fused_featurizer.attn_pool.latent": True,
        "featurizer.norm.weight": True,
        "featurizer.pos_embed": False,
    }
    assert {name: rules.is_unused(f"vision_backbone.{name}") for name in unused} == unused


def changed(**fields: object) -> dict[str, Any]:
    """The configuration without the fields that are None, and with the others."""
    merged = {**CONFIG, **fields}
    return {name: value for name, value in merged.items() if value is not None}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (changed(model_type="prismatic"), "model_type: expected 'openvla', found 'prismatic'"),
        (changed(llm_backbone_id="vicuna-v15-7b"), "expected llama2-7b-pure or .* found 'vicuna-v15-7b'"),
        (changed(llm_backbone_id=None), "llm_backbone_id: expected llama2-7b-pure .* found 'vicuna-v15-7b'"),
        (changed(image_resize_strategy=None), "expected resize-naive, found 'letterbox'"),
        (
            changed(arch_specifier="no-align+gelu-mlp"),
            r"\+fused-gelu-mlp for 2 vision towers, found 'no-align",
        ),
        (changed(use_fused_vision_backbone=False), "use_fused_vision_backbone: expected True, found False"),
        (
            changed(timm_override_act_layers=[None, "quick_gelu"]),
            r"expected none, found \[None, 'quick_gelu'\]",
        ),
        (
            changed(timm_model_ids=["vit_base", SIGLIP]),
            "vit_so400m_patch14_siglip_384, found 'vit_base'; no other",
        ),
        (changed(timm_model_ids=[SIGLIP]), "pixel scales, found 1, 2 and 2"),
        (changed(timm_model_ids=None), "timm_model_ids: expected a list of str, found None"),
        (
            changed(vision_towers=[{"colour": 1}, {}]),
            "vision_towers: expected only patch_size, .* found colour",
        ),
        (changed(vision_towers=[{}]), "vision_towers: expected one object for each tower"),
        (changed(vision_towers=[{"patch_size": 28}, {}]), r"of one token count, found \[64, 256\]"),
        (changed(vision_towers=[{"heads": 5}, {}]), "heads that divide the width .* heads 5"),
        (changed(vision_towers=[{"depth": 1}, {}]), "at least 2 blocks, found .* blocks 1"),
        (changed(text_config=None), "pad_id: expected a row of the embedding table, 0 to 31999"),
        (changed(text_config={"model_type": "mistral"}), "model_type: expected 'llama', found 'mistral'"),
        (changed(n_action_bins=32001), "n_action_bins: expected 2 to 32000, .* found 32001"),
        (
            changed(pad_token_id=32064),
            "pad_id: expected a row of the embedding table, 0 to 32063, found 32064",
        ),
    ],
)
def test_a_wrong_config_is_named(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_prismatic(CheckpointFolder(write(tmp_path, config)), causal=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"input_sizes": [[3, 336, 336]] * 2},
            r"input_sizes: expected \[\[3, 224, 224\], .* found \[\[3, 336",
        ),
        ({"image_resize_strategy": "letterbox"}, "expected 'resize-naive', found 'letterbox'"),
        ({"tvf_do_letterbox": True}, "tvf_do_letterbox: expected False, found True"),
        ({"means": None}, "means: expected a list of lists of float, found None"),
        ({"means": [[0.5] * 3]}, "expected as many means as stds, found 1 and 2"),
        ({"means": [[0.5] * 2] * 2}, r"of three channels, found \(0.5, 0.5\)"),
        ({"stds": [[0.5, 0.5, 0.0]] * 2}, "positive deviation of three channels"),
        ({"tvf_normalize_params": APPLIED[:1]}, "pixel scales, found 2, 2 and 1"),
        ({"tvf_normalize_params": "none"}, "tvf_normalize_params: expected a list, found 'none'"),
    ],
)
def test_a_wrong_processor_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_prismatic(CheckpointFolder(write(tmp_path, CONFIG, {**PROCESSOR, **change})), causal=True)
