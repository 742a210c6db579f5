"""π0.5 from parts of transformers: its PaliGemma, its Gemma's attention and MLP; adaptive norms from the formula.

No class of the environment has the model. Modules are named as in lerobot's ``PI05Policy``, whose files it writes.
"""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.export.families.pi_scenes import ACTION, CHUNK, EXPERT_WIDTH, Scene, expert, vlm
from tests.export.families.published import randomise

UNSEEN = -2.3819763e38
"""What openpi adds to the logit of a key that may not be seen."""


class AdaRms(nn.Module):
    """n (1 + scale) + shift and a gate, where [scale; shift; gate] = W c + b and n = x / sqrt(mean(x^2) + eps)."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(EXPERT_WIDTH, 3 * EXPERT_WIDTH)

    def forward(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        scale, shift, gate = self.dense(condition).split(EXPERT_WIDTH)
        return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * (1 + scale) + shift, gate


class Pi05Reference(nn.Module):
    """The model, one robot or several, one step after the other."""

    def __init__(self, *, kv_heads: int = 1, steps: int = 4) -> None:
        super().__init__()
        paligemma = transformers.PaliGemmaForConditionalGeneration(
            transformers.PaliGemmaConfig(**vlm(kv_heads))
        )
        gemma = transformers.GemmaForCausalLM(transformers.GemmaConfig(**expert(kv_heads)))
        gemma.model.embed_tokens = None
        for layer in gemma.model.layers:
            layer.input_layernorm, layer.post_attention_layernorm = AdaRms(), AdaRms()
        gemma.model.norm = AdaRms()
        self.paligemma_with_expert = nn.ModuleDict({"paligemma": paligemma, "gemma_expert": gemma})
        self.action_in_proj = nn.Linear(ACTION, EXPERT_WIDTH)
        self.action_out_proj = nn.Linear(EXPERT_WIDTH, ACTION)
        self.time_mlp_in = nn.Linear(EXPERT_WIDTH, EXPERT_WIDTH)
        self.time_mlp_out = nn.Linear(EXPERT_WIDTH, EXPERT_WIDTH)
        self.steps, self.kv_heads = steps, kv_heads
        randomise(self)
        self.eval()

    def prefix(self, scene: Scene) -> tuple[Any, Tensor]:
        """Run the prefix, absent cameras and padding masked: its cache, and its mask bool ``(batch, tokens)``."""
        model = self.paligemma_with_expert["paligemma"].model
        pictures = [model.get_image_features(scene.pixels[:, view]).pooler_output for view in range(3)]
        embeddings = torch.cat([*pictures, model.language_model.embed_tokens(scene.token_ids)], dim=1)
        cameras = [scene.views[:, view, None].expand(-1, pictures[view].shape[1]) for view in range(3)]
        text = torch.arange(scene.token_ids.shape[1]) < scene.lengths[:, None]
        mask = torch.cat([*cameras, text], dim=1)
        cache = model.language_model(
            inputs_embeds=embeddings,
            attention_mask=torch.where(mask[:, None, None] & mask[:, None, :, None], 0.0, UNSEEN),
            position_ids=mask.cumsum(1) - 1,
            use_cache=True,
        ).past_key_values
        return cache, mask

    def velocity(self, x: Tensor, time: float, cache: Any, mask: Tensor) -> Tensor:
        """Run the expert once over noisy actions ``(batch, chunk, action)``."""
        gemma = self.paligemma_with_expert["gemma_expert"].model
        condition = self.condition(time)
        hidden = self.action_in_proj(x)
        seen = torch.cat([mask, torch.ones(len(mask), CHUNK, dtype=torch.bool)], dim=1)
        attention = {
            "attention_mask": torch.where(seen[:, None, None], 0.0, UNSEEN).expand(-1, -1, CHUNK, -1),
            "position_embeddings": gemma.rotary_emb(hidden, mask.sum(1, keepdim=True) + torch.arange(CHUNK)),
            "past_key_values": copy.deepcopy(cache),
        }
        for layer in gemma.layers:
            normed, gate = layer.input_layernorm(hidden, condition)
            hidden = hidden + gate * layer.self_attn(normed, **attention)[0]
            normed, gate = layer.post_attention_layernorm(hidden, condition)
            hidden = hidden + gate * layer.mlp(normed)
        return self.action_out_proj(gemma.norm(hidden, condition)[0])

    def condition(self, time: float) -> Tensor:
        """Embed time: sines and cosines in float64, two layers."""
        periods = 4e-3 * 1000 ** torch.linspace(0, 1, EXPERT_WIDTH // 2, dtype=torch.float64)
        angles = 2 * math.pi * torch.tensor(time).double() / periods
        embedded = torch.cat([angles.sin(), angles.cos()]).float()
        return F.silu(self.time_mlp_out(F.silu(self.time_mlp_in(embedded))))

    def sample(self, scene: Scene) -> Tensor:
        """Integrate from the scene's noise."""
        cache, mask = self.prefix(scene)
        x = scene.noise
        for step in range(self.steps):
            x = x - self.velocity(x, 1.0 - step / self.steps, cache, mask) / self.steps
        return x

    def save(self, folder: Path) -> Path:
        """Write files as lerobot 0.6.1 does: ``model.`` before every name, the tower under ``vision_model``."""
        folder.mkdir()
        named = {
            f"model.{name}".replace(".vision_tower.", ".vision_tower.vision_model."): value.clone()
            for name, value in self.state_dict().items()
        }
        save_file(named, folder / "model.safetensors")
        config = {
            "type": "pi05",
            "n_obs_steps": 1,
            "paligemma_variant": "gemma_2b",
            "action_expert_variant": "gemma_300m",
            "dtype": "float32",
            "chunk_size": CHUNK,
            "n_action_steps": CHUNK,
            "max_state_dim": 32,
            "max_action_dim": ACTION,
            "num_inference_steps": self.steps,
            "image_resolution": [20, 20],
            "tokenizer_max_length": 200,
        }
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        return folder
