"""The tower against transformers' SigLIP, CLIP and DINOv2 with registers, random weights, to 1e-5."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
import transformers
from torch import Tensor

from saccade.export.models.vision_transformer import VisionConfig, VisionTransformer, patchify

SIZES = {
    "image_size": 12,
    "patch_size": 4,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
}
OURS = {"image_size": 12, "patch_size": 4, "width": 16, "depth": 3, "heads": 2, "mlp_dim": 24}


def _fused_qkv(state: Mapping[str, Tensor], names: tuple[str, str, str], kind: str) -> Tensor:
    return torch.cat([state[f"{name}.{kind}"] for name in names])


def _randomise(model: torch.nn.Module) -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.3)


def _clip_like_weights(state: Mapping[str, Tensor], depth: int) -> dict[str, Tensor]:
    """CLIP's and SigLIP's names to ours; they share the encoder."""
    ours = {"patch_embed.proj.weight": state["embeddings.patch_embedding.weight"]}
    ours["pos_embed"] = state["embeddings.position_embedding.weight"][None]
    for index in range(depth):
        theirs, block = f"encoder.layers.{index}", f"blocks.{index}"
        parts = tuple(f"{theirs}.self_attn.{name}_proj" for name in "qkv")
        for kind in ("weight", "bias"):
            ours[f"{block}.attn.qkv.{kind}"] = _fused_qkv(state, parts, kind)
            for ours_name, their_name in (
                ("norm1", "layer_norm1"),
                ("attn.proj", "self_attn.out_proj"),
                ("norm2", "layer_norm2"),
                ("mlp.fc1", "mlp.fc1"),
                ("mlp.fc2", "mlp.fc2"),
            ):
                ours[f"{block}.{ours_name}.{kind}"] = state[f"{theirs}.{their_name}.{kind}"]
    return ours


def _strip(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix("vision_model."): value for key, value in state.items()}


def test_siglip() -> None:
    reference = transformers.SiglipVisionModel(
        transformers.SiglipVisionConfig(**SIZES, intermediate_size=24, vision_use_head=False)
    ).eval()
    _randomise(reference)
    tower = VisionTransformer(VisionConfig(**OURS)).eval()
    state = _strip(reference.state_dict())
    weights = _clip_like_weights(state, 3)
    weights["patch_embed.proj.bias"] = state["embeddings.patch_embedding.bias"]
    for kind in ("weight", "bias"):
        weights[f"norm.{kind}"] = state[f"post_layernorm.{kind}"]
    tower.load_state_dict(weights)
    images = torch.randn(2, 3, 12, 12)
    with torch.no_grad():
        expected = reference(pixel_values=images).last_hidden_state
        torch.testing.assert_close(tower(images), expected, atol=1e-5, rtol=1e-5)


def test_clip_with_class_token_and_pre_norm_read_before_the_last_block() -> None:
    reference = transformers.CLIPVisionModel(
        transformers.CLIPVisionConfig(**SIZES, intermediate_size=24, hidden_act="quick_gelu")
    ).eval()
    _randomise(reference)
    config = VisionConfig(
        **OURS,
        norm_eps=1e-5,
        activation="quick_gelu",
        class_token=True,
        position_on_prefix=True,
        patch_bias=False,
        pre_norm=True,
        final_norm=False,
        read_block=-2,
    )
    tower = VisionTransformer(config).eval()
    state = _strip(reference.state_dict())
    weights = _clip_like_weights(state, 2)
    weights["cls_token"] = state["embeddings.class_embedding"][None, None]
    for kind in ("weight", "bias"):
        weights[f"norm_pre.{kind}"] = state[f"pre_layrnorm.{kind}"]
    tower.load_state_dict(weights)
    images = torch.randn(2, 3, 12, 12)
    with torch.no_grad():
        hidden = reference(pixel_values=images, output_hidden_states=True).hidden_states
        torch.testing.assert_close(tower(images), hidden[2][:, 1:], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("on_prefix", [False, True])
def test_dinov2_with_registers_and_layer_scale(*, on_prefix: bool) -> None:
    reference = transformers.Dinov2WithRegistersModel(
        transformers.Dinov2WithRegistersConfig(**SIZES, mlp_ratio=2, num_register_tokens=2)
    ).eval()
    _randomise(reference)
    if not on_prefix:
        # The reference gives CLS a position of its own; timm, whose layout OpenVLA stores, does not.
        reference.embeddings.position_embeddings.data[:, 0] = 0
    config = VisionConfig(
        **{**OURS, "mlp_dim": 32},
        activation="gelu",
        class_token=True,
        register_tokens=2,
        layer_scale=True,
        position_on_prefix=on_prefix,
    )
    tower = VisionTransformer(config).eval()
    state = reference.state_dict()
    weights = {
        "cls_token": state["embeddings.cls_token"],
        "reg_token": state["embeddings.register_tokens"],
        "pos_embed": state["embeddings.position_embeddings"][:, 0 if on_prefix else 1 :],
        "norm.weight": state["layernorm.weight"],
        "norm.bias": state["layernorm.bias"],
    }
    for kind in ("weight", "bias"):
        weights[f"patch_embed.proj.{kind}"] = state[f"embeddings.patch_embeddings.projection.{kind}"]
    for index in range(3):
        theirs, block = f"encoder.layer.{index}", f"blocks.{index}"
        parts = tuple(f"{theirs}.attention.{name}_proj" for name in "qkv")
        for scale in ("1", "2"):
            weights[f"{block}.ls{scale}.scale_factor"] = state[f"{theirs}.layer_scale{scale}.lambda1"]
        for kind in ("weight", "bias"):
            weights[f"{block}.attn.qkv.{kind}"] = _fused_qkv(state, parts, kind)
            weights[f"{block}.attn.proj.{kind}"] = state[f"{theirs}.attention.o_proj.{kind}"]
            for name in ("norm1", "norm2", "mlp.fc1", "mlp.fc2"):
                weights[f"{block}.{name}.{kind}"] = state[f"{theirs}.{name}.{kind}"]
    tower.load_state_dict(weights)
    images = torch.randn(2, 3, 12, 12)
    with torch.no_grad():
        expected = reference(pixel_values=images).last_hidden_state[:, 3:]
        torch.testing.assert_close(tower(images), expected, atol=1e-5, rtol=1e-5)


def test_pixels_are_normalised_as_images_are() -> None:
    config = VisionConfig(**OURS, pixel_mean=(0.485, 0.456, 0.406), pixel_std=(0.229, 0.224, 0.225))
    tower = VisionTransformer(config).eval()
    pixels = torch.randint(0, 256, (2, 12, 12, 3))
    mean, std = torch.tensor(config.pixel_mean), torch.tensor(config.pixel_std)
    images = ((pixels / 255 - mean) / std).permute(0, 3, 1, 2)
    torch.testing.assert_close(tower.encode_pixels(pixels.float()), tower(images), atol=1e-5, rtol=1e-5)


def test_patches_are_row_major() -> None:
    index = torch.arange(16).reshape(1, 4, 4, 1)
    assert patchify(index, 2)[0].tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
