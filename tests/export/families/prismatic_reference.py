"""OpenVLA and OpenVLA-OFT have no class on PyPI: a reference composed of public ones, and the files as published.

The towers are transformers' ``Dinov2WithRegistersModel`` and ``SiglipVisionModel``, the latter with exact GELU, as timm
has it. Their weights are written under timm's names, as the published checkpoints store them; the language model is
``LlamaForCausalLM``. In ``tests/lerobot/write_prismatic.py`` timm's own towers take their place; timm wants
torchvision, whose PyPI build does not go with a CPU build of torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from tests.export.families.published import normalised, randomise

SIDE, PATCH, PATCHES, VOCABULARY, WIDTH = 28, 7, 16, 32064, 24
DINOV2, SIGLIP = "vit_large_patch14_reg4_dinov2.lvd142m", "vit_so400m_patch14_siglip_224"
OVERRIDES = {
    DINOV2: {"patch_size": PATCH, "width": 32, "depth": 3, "heads": 4, "mlp_dim": 64},
    SIGLIP: {"patch_size": PATCH, "width": 24, "depth": 3, "heads": 2, "mlp_dim": 40},
}
APPLIED = {
    DINOV2: ([0.484375, 0.455078125, 0.40625], [0.228515625, 0.2236328125, 0.224609375]),
    SIGLIP: ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
}
"""What the published processor's file has under ``tvf_normalize_params``: ImageNet's numbers through bfloat16."""
MEANT = {DINOV2: ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]), SIGLIP: APPLIED[SIGLIP]}

_DINOV2_NAMES = (
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.register_tokens$", "reg_token"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^encoder\.layer\.", "blocks."),
    (r"\.attention\.(?:attention\.)?(?:q_proj|query)\.", ".attn.0."),
    (r"\.attention\.(?:attention\.)?(?:k_proj|key)\.", ".attn.1."),
    (r"\.attention\.(?:attention\.)?(?:v_proj|value)\.", ".attn.2."),
    (r"\.attention\.(?:o_proj|output\.dense)\.", ".attn.proj."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.scale_factor"),
    (r"^layernorm\.", "norm."),
)
_SIGLIP_NAMES = (
    (r"^vision_model\.", ""),
    (r"^embeddings\.patch_embedding\.", "patch_embed.proj."),
    (r"^encoder\.layers\.", "blocks."),
    (r"\.self_attn\.q_proj\.", ".attn.0."),
    (r"\.self_attn\.k_proj\.", ".attn.1."),
    (r"\.self_attn\.v_proj\.", ".attn.2."),
    (r"\.self_attn\.out_proj\.", ".attn.proj."),
    (r"\.layer_norm([12])\.", r".norm\1."),
    (r"^post_layernorm\.", "norm."),
    (r"^head\.", "attn_pool."),
)


class TransformersTower(nn.Module):
    """A tower of transformers under timm's name for it.

    Args:
        name: timm's.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.has_prefix = name == DINOV2
        self.model = _dinov2() if self.has_prefix else _siglip()

    def forward(self, pixels: Tensor) -> Tensor:
        """What the block before the last makes of the patches, without CLS and registers."""
        found: list[Tensor] = []
        inner: Any = getattr(self.model, "vision_model", self.model)
        blocks = inner.encoder.layer if self.has_prefix else inner.encoder.layers
        keep = lambda _, __, out: found.append(out[0] if isinstance(out, tuple) else out)  # noqa: E731
        hook = blocks[-2].register_forward_hook(keep)
        self.model(pixels)
        hook.remove()
        return found[0][:, 5:] if self.has_prefix else found[0]

    def published(self) -> dict[str, Tensor]:
        """Every weight under timm's name."""
        stored: dict[str, Tensor] = {}
        for key, weight in self.model.state_dict().items():
            timms = key
            for pattern, replacement in _DINOV2_NAMES if self.has_prefix else _SIGLIP_NAMES:
                timms = re.sub(pattern, replacement, timms)
            stored[timms] = weight
        stored.pop("embeddings.mask_token", None)
        if self.has_prefix:  # timm adds the class token's position to the token, and stores none for it
            positions = stored.pop("embeddings.position_embeddings")
            stored["cls_token"] = stored["cls_token"] + positions[:, :1]
            stored["pos_embed"] = positions[:, 1:]
        else:
            stored["pos_embed"] = stored.pop("embeddings.position_embedding.weight")[None]
        parts = sorted(key for key in stored if ".attn.0." in key)
        for first in parts:
            whole = [stored.pop(first.replace(".attn.0.", f".attn.{part}.")) for part in range(3)]
            stored[first.replace(".attn.0.", ".attn.qkv.")] = torch.cat(whole)
        return stored


class Reference(nn.Module):
    """Towers, projector and language model, tiny and random.

    Args:
        fused: Both towers; else SigLIP alone.
        seed: Of the weights.
        tower: Makes a tower by timm's name; called with pixels it gives patches; it tells its ``published`` weights.
    """

    def __init__(
        self, *, fused: bool = True, seed: int = 0, tower: Callable[[str], nn.Module] = TransformersTower
    ) -> None:
        super().__init__()
        self.names = (DINOV2, SIGLIP) if fused else (SIGLIP,)
        self.towers = nn.ModuleList(map(tower, self.names))
        channels = sum(int(OVERRIDES[name]["width"]) for name in self.names)
        widths = (channels, 4 * channels, WIDTH, WIDTH) if fused else (channels, WIDTH, WIDTH)
        self.projector = nn.ModuleList(map(nn.Linear, widths, widths[1:]))
        self.llama = transformers.LlamaForCausalLM(_llama())
        randomise(self, seed)
        with torch.no_grad():
            self.llama.lm_head.weight[31744:32000] *= 6  # so that what it says is an action
        self.eval()

    def visual(self, images: Any) -> Tensor:
        """uint8 ``(views, side, side, 3)`` to projected patches ``(1, views * patches, width)``."""
        features = []
        for name, tower in zip(self.names, self.towers, strict=True):
            mean, std = APPLIED[name]
            features.append(tower(normalised(images, {"image_mean": mean, "image_std": std})))
        x = torch.cat(features, dim=-1)
        for number, layer in enumerate(self.projector):
            x = layer(functional.gelu(x) if number else x)
        return x.reshape(1, -1, WIDTH)

    def embedded(self, ids: list[int]) -> Tensor:
        """Token ids to ``(1, tokens, width)``."""
        return self.llama.model.embed_tokens(torch.tensor([ids]))

    def published(self) -> dict[str, Tensor]:
        """Every weight under its published name."""
        stored = {f"language_model.{name}": weight for name, weight in self.llama.state_dict().items()}
        for number, layer in enumerate(self.projector, start=1):
            stored |= {f"projector.fc{number}.{name}": weight for name, weight in layer.state_dict().items()}
        places = ("featurizer", "fused_featurizer")
        for place, tower in zip(places, self.towers, strict=False):
            published: dict[str, Tensor] = tower.published()  # type: ignore[operator]
            stored |= {f"vision_backbone.{place}.{key}": weight for key, weight in published.items()}
        return {name: weight.detach().clone().contiguous() for name, weight in stored.items()}


def config_json(model: Reference, **changes: Any) -> dict[str, Any]:
    """What the published ``config.json`` has, with the tiny dimensions."""
    names, fused = list(model.names), len(model.names) == 2
    llama = model.llama.config
    return {
        "model_type": "openvla",
        "arch_specifier": "no-align+fused-gelu-mlp" if fused else "no-align+gelu-mlp",
        "auto_map": {"AutoConfig": "configuration_prismatic.OpenVLAConfig"},
        "hf_llm_id": "meta-llama/Llama-2-7b-hf",
        "image_resize_strategy": "resize-naive",
        "image_sizes": [SIDE] * len(names),
        "llm_backbone_id": "llama2-7b-pure",
        "n_action_bins": 256,
        "pad_to_multiple_of": 64,
        "pad_token_id": 32000,
        "text_config": {
            "model_type": "llama",
            "pad_token_id": 32000,
            "vocab_size": VOCABULARY,
            "hidden_size": llama.hidden_size,
            "intermediate_size": llama.intermediate_size,
            "num_hidden_layers": llama.num_hidden_layers,
            "num_attention_heads": llama.num_attention_heads,
            "num_key_value_heads": llama.num_key_value_heads,
            "head_dim": llama.head_dim,
        },
        "timm_model_ids": names,
        "timm_override_act_layers": [None] * len(names),
        "use_fused_vision_backbone": fused,
        "vision_towers": [OVERRIDES[name] for name in names],
        **changes,
    }


def write(model: Reference, folder: Path, data_sets: dict[str, Any], **changes: Any) -> Path:
    """Write a checkpoint in two shards; ``changes`` are fields of ``config.json``."""
    folder.mkdir(parents=True)
    weights = list(model.published().items())
    shards = {"a.safetensors": dict(weights[::2]), "b.safetensors": dict(weights[1::2])}
    for name, shard in shards.items():
        save_file(shard, folder / name)
    index = {"weight_map": {key: name for name, shard in shards.items() for key in shard}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps(config_json(model, norm_stats=data_sets, **changes)))
    processor = {
        "image_resize_strategy": "resize-naive",
        "input_sizes": [[3, SIDE, SIDE]] * len(model.names),
        "interpolations": ["bicubic"] * len(model.names),
        "means": [MEANT[name][0] for name in model.names],
        "stds": [MEANT[name][1] for name in model.names],
        "tvf_do_letterbox": False,
        "tvf_normalize_params": [
            {"inplace": False, "mean": APPLIED[name][0], "std": APPLIED[name][1]} for name in model.names
        ],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def statistics(action_dim: int, proprio_dim: int, seed: int = 0) -> dict[str, Any]:
    """Random statistics of a data set; the last dimension of an action, the gripper, is passed as it is."""
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, Any] = {"num_trajectories": 3, "num_transitions": 90}
    for part, dim in (("action", action_dim), ("proprio", proprio_dim)):
        steps = torch.rand(4, dim, generator=generator, dtype=torch.float64) + 0.1
        rising = steps.cumsum(dim=0) - 1.5
        found[part] = {name: rising[row].tolist() for row, name in enumerate(("min", "q01", "q99", "max"))}
    found["action"]["mask"] = [True] * (action_dim - 1) + [False]
    return found


def _dinov2() -> nn.Module:
    sizes = OVERRIDES[DINOV2]
    return transformers.Dinov2WithRegistersModel(
        transformers.Dinov2WithRegistersConfig(
            hidden_size=sizes["width"],
            num_hidden_layers=sizes["depth"],
            num_attention_heads=sizes["heads"],
            mlp_ratio=2,
            image_size=SIDE,
            patch_size=PATCH,
        )
    )


def _siglip() -> nn.Module:
    sizes = OVERRIDES[SIGLIP]
    return transformers.SiglipVisionModel(
        transformers.SiglipVisionConfig(
            hidden_size=sizes["width"],
            intermediate_size=sizes["mlp_dim"],
            num_hidden_layers=sizes["depth"],
            num_attention_heads=sizes["heads"],
            image_size=SIDE,
            patch_size=PATCH,
            hidden_act="gelu",
        )
    )


def _llama() -> transformers.LlamaConfig:
    """Heads do not add up to the width; what the published files leave out is the class's default."""
    return transformers.LlamaConfig(
        hidden_size=WIDTH,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        vocab_size=VOCABULARY,
    )
