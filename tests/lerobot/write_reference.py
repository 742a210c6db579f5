"""Writes tiny checkpoints of lerobot's own policies, and beside each what the policy computes from it.

    .venv-lerobot/bin/python tests/lerobot/write_reference.py smolvla FOLDER

Runs in an environment of its own; README.md says how to make it and what is written.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import declared_operators  # noqa: F401
import numpy as np
import torch
import transformers
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies.pi05 import modeling_pi05
from lerobot.policies.pi05.configuration_pi05 import PI05Config
from lerobot.policies.pi05.modeling_pi05 import PI05Policy
from lerobot.policies.smolvla import smolvlm_with_expert
from lerobot.policies.smolvla.configuration_smolvla import SmolVLAConfig
from lerobot.policies.smolvla.modeling_smolvla import SmolVLAPolicy
from lerobot.processor import NormalizerProcessorStep, PolicyProcessorPipeline, UnnormalizerProcessorStep
from lerobot.utils.constants import ACTION, OBS_LANGUAGE_ATTENTION_MASK, OBS_LANGUAGE_TOKENS, OBS_STATE
from torch import Tensor, nn

BATCH, TEXT, STATE_DIM, ACTION_DIM = 3, 9, 5, 4
LENGTHS = (9, 4, 1)
"""Valid tokens of each robot's text: full, partly and almost all padding."""


def randomise(model: nn.Module, seed: int = 0) -> None:
    """Draw every weight anew: norms and biases too, whose ones and zeros would hide that they are not read."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_norm = "norm" in name and parameter.dim() == 1
            scale = 0.2 if is_norm or parameter.dim() == 1 else 1.0 / max(parameter.shape[-1], 1) ** 0.5
            drawn = torch.randn(parameter.shape, generator=generator) * scale
            parameter.copy_(drawn + (1.0 if is_norm and name.endswith("weight") else 0.0))


class Example:
    """Random inputs of one policy.

    Args:
        cameras: Names of the cameras that are there.
        side: Of their square pictures, pixels.
        vocabulary: Token ids are below.
        config: Of the policy.
    """

    def __init__(self, cameras: tuple[str, ...], side: int, vocabulary: int, config: Any) -> None:
        random = np.random.default_rng(1)
        self.cameras = cameras
        self.images = random.integers(0, 256, (BATCH, len(cameras), side, side, 3), dtype=np.uint8)
        self.raw_state = random.normal(2.0, 3.0, (BATCH, STATE_DIM)).astype(np.float32)
        self.lengths = np.array(LENGTHS)
        self.token_ids = random.integers(1, vocabulary, (BATCH, TEXT))
        self.token_ids[np.arange(TEXT) >= self.lengths[:, None]] = 0
        shape = (BATCH, config.chunk_size, config.max_action_dim)
        self.noise = random.normal(size=shape).astype(np.float32)

    def batch(self, state: Tensor) -> dict[str, Tensor]:
        """Return what ``predict_action_chunk`` takes."""
        pixels = torch.from_numpy(self.images.astype(np.float32) / 255.0).permute(1, 0, 4, 2, 3)
        mask = torch.from_numpy(np.arange(TEXT) < self.lengths[:, None])
        return {
            OBS_STATE: state,
            OBS_LANGUAGE_TOKENS: torch.from_numpy(self.token_ids),
            OBS_LANGUAGE_ATTENTION_MASK: mask,
            **dict(zip(self.cameras, pixels, strict=True)),
        }

    def arrays(self) -> dict[str, Any]:
        """Return what goes into ``oracle.npz``."""
        return {
            "images": self.images,
            "raw_state": self.raw_state,
            "lengths": self.lengths,
            "token_ids": self.token_ids,
            "noise": self.noise,
        }


def features(*cameras: str) -> dict[str, Any]:
    """Return the features that every policy's configuration wants."""
    views = {camera: PolicyFeature(type=FeatureType.VISUAL, shape=(3, 48, 64)) for camera in cameras}
    state = {OBS_STATE: PolicyFeature(type=FeatureType.STATE, shape=(STATE_DIM,))}
    action = {ACTION: PolicyFeature(type=FeatureType.ACTION, shape=(ACTION_DIM,))}
    return {"input_features": {**state, **views}, "output_features": action}


def statistics() -> dict[str, dict[str, Any]]:
    """Return random statistics of a data set."""
    random = np.random.default_rng(2)
    found = {}
    for name, size in ((OBS_STATE, STATE_DIM), (ACTION, ACTION_DIM)):
        rows = np.sort(random.normal(0.0, 4.0, (6, size)), axis=0).astype(np.float32)
        stats = dict(zip(("min", "q01", "q10", "q90", "q99", "max"), rows, strict=True))
        found[name] = {**stats, "mean": rows.mean(axis=0), "std": rows.std(axis=0)}
    return found


def processors(config: Any, folder: Path) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """Write the real processors, less the tokenizer; return what normalises a state and un-normalises actions."""
    both = {**config.input_features, **config.output_features}
    normalise = NormalizerProcessorStep(
        features=both, norm_map=config.normalization_mapping, stats=statistics()
    )
    unnormalise = UnnormalizerProcessorStep(
        features=config.output_features, norm_map=config.normalization_mapping, stats=statistics()
    )
    for step, name in ((normalise, "policy_preprocessor"), (unnormalise, "policy_postprocessor")):
        PolicyProcessorPipeline(steps=[step], name=name).save_pretrained(folder)
    return (
        lambda state: normalise({"observation": {OBS_STATE: state}})["observation"][OBS_STATE],
        lambda actions: unnormalise({"action": actions})["action"],
    )


def defaults(kind: type[Any]) -> dict[str, Any]:
    """Return what a configuration class assumes, where JSON can say it."""
    plain = {field.name: field.default for field in fields(kind) if field.default is not MISSING}
    return {name: value for name, value in plain.items() if isinstance(value, (int, float, str, tuple))}


SMOLVLA = {
    "published": {
        "backbone": {"text_config": {"num_hidden_layers": 6}},
        "policy": {"num_vlm_layers": 4, "empty_cameras": 1},
    },
    "tied": {
        "backbone": {"tie_word_embeddings": True, "text_config": {"num_hidden_layers": 5}},
        "policy": {
            "num_vlm_layers": -1,
            "self_attn_every_n_layers": 3,
            "prefix_length": 40,
            "expert_width_multiplier": 0.5,
            "num_steps": 4,
            "min_period": 1e-2,
            "max_period": 2.0,
        },
    },
}
"""Variants: what differs from the settings below."""


def smolvla_backbone(changes: dict[str, Any]) -> transformers.SmolVLMConfig:
    """Return a tiny backbone; heads do not add up to the width, and its rotary base is not the policy's."""
    text = {
        "model_type": "llama",
        "hidden_size": 48,
        "intermediate_size": 56,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 12,
        "vocab_size": 96,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1e5,
        "pad_token_id": 0,
    }
    vision = {
        "hidden_size": 32,
        "intermediate_size": 40,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "image_size": 32,
        "patch_size": 4,
    }
    settings = {
        "vision_config": vision,
        "scale_factor": 4,
        "pad_token_id": 0,
        "image_token_id": 95,
        **changes,
    }
    return transformers.SmolVLMConfig(**{**settings, "text_config": {**text, **changes["text_config"]}})


def write_smolvla(folder: Path) -> None:
    """Write every variant of SmolVLA, and what its configuration class assumes."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "defaults.json").write_text(json.dumps(defaults(SmolVLAConfig)), encoding="utf-8")
    tokens = SimpleNamespace(fake_image_token_id=93, global_image_token_id=94)
    smolvlm_with_expert.AutoProcessor = SimpleNamespace(
        from_pretrained=lambda _: SimpleNamespace(tokenizer=tokens)
    )
    for name, changes in SMOLVLA.items():
        place = folder / name
        place.mkdir()
        smolvla_backbone(changes["backbone"]).save_pretrained(place / "backbone")
        cameras = ("observation.images.top", "observation.images.wrist")
        config = SmolVLAConfig(
            **features(*cameras),
            **{**SMOLVLA_SETTINGS, **changes["policy"]},
            vlm_model_name=str(place / "backbone"),
            device="cpu",
        )
        policy = SmolVLAPolicy(config)
        randomise(policy)
        policy.model.vlm_with_expert.vlm.tie_weights()
        policy.eval()
        policy.save_pretrained(place)
        (place / "backbone" / "config.json").rename(place / "backbone_config.json")
        normalise, unnormalise = processors(config, place)
        example = Example(cameras, 32, 93, config)
        state = normalise(torch.from_numpy(example.raw_state))
        noise = torch.from_numpy(example.noise)
        actions = policy.predict_action_chunk(example.batch(state), noise=noise)
        keys, values, mask, embeddings = smolvla_prefix(policy, example.batch(state))
        np.savez(
            place / "oracle.npz",
            **example.arrays(),
            state=state,
            actions=actions,
            physical_actions=unnormalise(actions),
            prefix_mask=mask,
            prefix_embeddings=embeddings,
            prefix_keys=keys,
            prefix_values=values,
        )


SMOLVLA_SETTINGS = {
    "chunk_size": 6,
    "n_action_steps": 6,
    "max_state_dim": 7,
    "max_action_dim": 8,
    "resize_imgs_with_padding": (32, 32),
    "tokenizer_max_length": TEXT,
    "num_steps": 10,
}


@torch.no_grad()
def smolvla_prefix(policy: SmolVLAPolicy, batch: dict[str, Tensor]) -> tuple[Tensor, ...]:
    """Return keys, values ``(layers, batch, kv_heads, tokens, head_dim)``, mask and embeddings of the prefix."""
    model = policy.model
    images, image_masks = policy.prepare_images(batch)
    words, word_mask = batch[OBS_LANGUAGE_TOKENS], batch[OBS_LANGUAGE_ATTENTION_MASK]
    embeddings, mask, order = model.embed_prefix(
        images, image_masks, words, word_mask, policy.prepare_state(batch)
    )
    places = order.cumsum(dim=1)
    _, cache = model.vlm_with_expert.forward(
        attention_mask=(places[:, None] <= places[:, :, None]) & mask[:, None] & mask[:, :, None],
        position_ids=mask.cumsum(dim=1) - 1,
        inputs_embeds=[embeddings, None],
        use_cache=True,
    )
    layers = range(policy.model.vlm_with_expert.num_vlm_layers)
    keys = torch.stack([cache.layers[index].keys for index in layers])
    return keys, torch.stack([cache.layers[index].values for index in layers]), mask, embeddings


PI05_DIMENSIONS = {
    "gemma_2b": {
        "width": 16, "depth": 3, "mlp_dim": 24, "num_heads": 8, "num_kv_heads": 1, "head_dim": 4,
    },
    "gemma_300m": {
        "width": 12, "depth": 3, "mlp_dim": 20, "num_heads": 8, "num_kv_heads": 1, "head_dim": 4,
    },
    "vision": {
        "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": 4,
        "patch_size": 7,
    },
}  # fmt: skip
"""In place of the sizes that lerobot's code fixes; the vocabulary of 257152 stays."""


def write_pi05(folder: Path) -> None:
    """Write a tiny π0.5."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dimensions.json").write_text(json.dumps(PI05_DIMENSIONS), encoding="utf-8")
    real = modeling_pi05.PaliGemmaForConditionalGenerationWithPiGemma

    def smaller(config: Any) -> nn.Module:
        for name, value in PI05_DIMENSIONS["vision"].items():
            setattr(config.vision_config, name, value)
        config.vision_config.projection_dim = PI05_DIMENSIONS["gemma_2b"]["width"]
        model: nn.Module = real(config=config)
        return model

    modeling_pi05.PaliGemmaForConditionalGenerationWithPiGemma = smaller
    modeling_pi05.get_gemma_config = lambda variant: modeling_pi05.GemmaConfig(**PI05_DIMENSIONS[variant])
    cameras = ("observation.images.top", "observation.images.wrist")
    config = PI05Config(
        **features(*cameras),
        chunk_size=6,
        n_action_steps=6,
        max_state_dim=7,
        max_action_dim=8,
        image_resolution=(28, 28),
        tokenizer_max_length=TEXT,
        device="cpu",
    )
    policy = PI05Policy(config)
    randomise(policy)
    policy.model.paligemma_with_expert.paligemma.tie_weights()
    policy.eval()
    policy.save_pretrained(folder)
    normalise, unnormalise = processors(config, folder)
    example = Example(cameras, 28, 257152, config)
    state = normalise(torch.from_numpy(example.raw_state))
    noise = torch.from_numpy(example.noise)
    actions = policy.predict_action_chunk(example.batch(state), noise=noise)
    np.savez(
        folder / "oracle.npz",
        **example.arrays(),
        state=state,
        actions=actions,
        physical_actions=unnormalise(actions),
    )


WRITERS = {"smolvla": write_smolvla, "pi05": write_pi05}


def main() -> None:
    """Write what the command line asks for."""
    from write_control import CONTROL_WRITERS  # not above: both take from this file
    from write_prismatic import write_prismatic

    writers = {**WRITERS, **CONTROL_WRITERS, "prismatic": write_prismatic}
    if len(sys.argv) != 3 or sys.argv[1] not in writers:
        sys.exit(f"usage: write_reference.py {'|'.join(writers)} FOLDER")
    torch.set_num_threads(1)
    writers[sys.argv[1]](Path(sys.argv[2]))


if __name__ == "__main__":
    main()
