"""Writes a tiny checkpoint of a lerobot policy with its real processors, and whole control steps beside it.

    .venv-lerobot/bin/python tests/lerobot/write_reference.py smolvla_control FOLDER

From what a camera, a robot and a person give (pictures of another aspect than the model's, physical units, words) to
actions in physical units, through lerobot's own pre-processor, policy and post-processor. Runs in the environment of
README.md; ``control.npz`` has inputs and results, episode by episode.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import transformers
from lerobot.policies.pi0 import modeling_pi0
from lerobot.policies.pi0.configuration_pi0 import PI0Config
from lerobot.policies.pi0.processor_pi0 import make_pi0_pre_post_processors
from lerobot.policies.pi05 import modeling_pi05
from lerobot.policies.pi05.configuration_pi05 import PI05Config
from lerobot.policies.pi05.processor_pi05 import make_pi05_pre_post_processors
from lerobot.policies.smolvla import smolvlm_with_expert
from lerobot.policies.smolvla.configuration_smolvla import SmolVLAConfig
from lerobot.policies.smolvla.modeling_smolvla import SmolVLAPolicy
from lerobot.policies.smolvla.processor_smolvla import make_smolvla_pre_post_processors
from lerobot.processor import tokenizer_processor
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
from torch import Tensor, nn
from write_reference import (
    ACTION_DIM,
    SMOLVLA_SETTINGS,
    STATE_DIM,
    features,
    randomise,
    smolvla_backbone,
    statistics,
)

PI_DIMENSIONS = {
    "gemma_2b": {
        "width": 32, "depth": 3, "mlp_dim": 40, "num_heads": 8, "num_kv_heads": 1, "head_dim": 8,
    },
    "gemma_300m": {
        "width": 24, "depth": 3, "mlp_dim": 32, "num_heads": 8, "num_kv_heads": 1, "head_dim": 8,
    },
    "vision": {
        "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": 4,
        "patch_size": 7,
    },
}  # fmt: skip
"""In place of sizes that lerobot fixes in code; not too narrow: random weights would multiply what float32 rounds."""
CAMERAS = ("observation.images.top", "observation.images.wrist")
HEIGHT, WIDTH, NOISE_SEED = 48, 64, 7
TASKS = ("pick_up the red cube", "put it down")
"""One for each episode."""
STEPS = 2
"""Control steps of an episode."""
PAD, BOS, UNKNOWN = "<pad>", "<bos>", "<unk>"
_TEXT = "\n :;,-_" + "".join(map(chr, (*range(48, 58), *range(65, 91), *range(97, 123))))


def tokenizer(*, has_bos: bool) -> Tokenizer:
    """Return a tokenizer of single characters."""
    words = [PAD, BOS, UNKNOWN, *_TEXT]
    made = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token=UNKNOWN))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    made.add_special_tokens([PAD, BOS, UNKNOWN])
    if has_bos:
        made.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, 1)])
    return made


def fast(made: Tokenizer) -> Any:
    """Return it as transformers knows it."""
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token=PAD, bos_token=BOS, unk_token=UNKNOWN
    )


def write_smolvla(folder: Path) -> None:
    """Write a tiny SmolVLA."""
    folder.mkdir(parents=True)
    made = tokenizer(has_bos=False)
    backbone = smolvla_backbone({"text_config": {"num_hidden_layers": 4}})
    backbone.save_pretrained(folder / "backbone")
    fast(made).save_pretrained(folder / "backbone")
    ids = SimpleNamespace(fake_image_token_id=93, global_image_token_id=94)
    smolvlm_with_expert.AutoProcessor = SimpleNamespace(
        from_pretrained=lambda _: SimpleNamespace(tokenizer=ids)
    )
    config = SmolVLAConfig(
        **features(*CAMERAS),
        **{**SMOLVLA_SETTINGS, "tokenizer_max_length": 24, "num_vlm_layers": -1, "num_steps": 2},
        vlm_model_name=str(folder / "backbone"),
        device="cpu",
    )
    policy = SmolVLAPolicy(config)
    randomise(policy)
    policy.model.vlm_with_expert.vlm.tie_weights()
    write_control(folder, policy, config, made, make_smolvla_pre_post_processors)
    (folder / "backbone" / "config.json").rename(folder / "backbone_config.json")


def write_pi(
    folder: Path,
    modeling: Any,
    kind: type[Any],
    policy_class: type[Any],
    make: Callable[..., Any],
    **settings: Any,
) -> None:
    """Write a tiny π0 or π0.5."""
    real = modeling.PaliGemmaForConditionalGenerationWithPiGemma

    def smaller(config: Any) -> nn.Module:
        for name, value in PI_DIMENSIONS["vision"].items():
            setattr(config.vision_config, name, value)
        config.vision_config.projection_dim = PI_DIMENSIONS["gemma_2b"]["width"]
        model: nn.Module = real(config=config)
        return model

    modeling.PaliGemmaForConditionalGenerationWithPiGemma = smaller
    modeling.get_gemma_config = lambda variant: modeling.GemmaConfig(**PI_DIMENSIONS[variant])
    made = tokenizer(has_bos=True)
    tokenizer_processor.AutoTokenizer = SimpleNamespace(from_pretrained=lambda _: fast(made))
    config = kind(
        **features(*CAMERAS),
        chunk_size=6,
        n_action_steps=6,
        max_state_dim=7,
        max_action_dim=8,
        num_inference_steps=2,
        image_resolution=(28, 28),
        device="cpu",
        **settings,
    )
    policy = policy_class(config)
    randomise(policy)
    policy.model.paligemma_with_expert.paligemma.tie_weights()
    folder.mkdir(parents=True)
    (folder / "dimensions.json").write_text(json.dumps(PI_DIMENSIONS), encoding="utf-8")
    write_control(folder, policy, config, made, make)


@torch.no_grad()
def write_control(folder: Path, policy: Any, config: Any, made: Tokenizer, make: Callable[..., Any]) -> None:
    """Save policy, processors and tokenizer; run whole control steps and write them down."""
    policy.eval()
    policy.save_pretrained(folder)
    made.save(str(folder / "tokenizer.json"))
    stats = {
        name: {part: torch.from_numpy(np.asarray(row) / 4) for part, row in rows.items()}
        for name, rows in statistics().items()
    }
    before, after = make(config, stats)
    before.save_pretrained(folder)
    after.save_pretrained(folder)
    random = np.random.default_rng(3)
    shape = (len(TASKS), STEPS)
    images = random.integers(0, 256, (*shape, len(CAMERAS), HEIGHT, WIDTH, 3), dtype=np.uint8)
    states = random.normal(0.0, 3.0, (*shape, STATE_DIM)).astype(np.float32)
    noise = np.zeros((*shape, config.chunk_size, config.max_action_dim), np.float32)
    actions = np.zeros((*shape, config.chunk_size, ACTION_DIM), np.float32)
    for episode, task in enumerate(TASKS):
        for step in range(STEPS):
            drawn = np.random.default_rng((NOISE_SEED, episode, step))
            noise[episode, step] = drawn.standard_normal(noise.shape[2:], dtype=np.float32)
            batch = before(observation(images[episode, step], states[episode, step], task))
            chunk = policy.predict_action_chunk(batch, noise=torch.from_numpy(noise[episode, step])[None])
            actions[episode, step] = after(chunk)[0].numpy()
    np.savez(
        folder / "control.npz",
        tasks=np.array(TASKS),
        images=images,
        states=states,
        noise=noise,
        noise_seed=NOISE_SEED,
        actions=actions,
    )


def observation(images: np.ndarray, state: np.ndarray, task: str) -> dict[str, Any]:
    """Return what a robot gives lerobot: pictures float 0..1, channels first."""
    pictures: dict[str, Tensor] = {
        name: torch.from_numpy(picture.astype(np.float32) / 255.0).permute(2, 0, 1)
        for name, picture in zip(CAMERAS, images, strict=True)
    }
    return {**pictures, "observation.state": torch.from_numpy(state), "task": task}


CONTROL_WRITERS: dict[str, Callable[[Path], None]] = {
    "smolvla_control": write_smolvla,
    "pi0_control": lambda folder: write_pi(
        folder,
        modeling_pi0,
        PI0Config,
        modeling_pi0.PI0Policy,
        make_pi0_pre_post_processors,
        tokenizer_max_length=24,
    ),
    "pi0_relative_control": lambda folder: write_pi(
        folder,
        modeling_pi0,
        PI0Config,
        modeling_pi0.PI0Policy,
        make_pi0_pre_post_processors,
        tokenizer_max_length=24,
        use_relative_actions=True,
        relative_exclude_joints=["gripper"],
        action_feature_names=["x", "y", "gripper.pos", "z"],
    ),
    "pi05_control": lambda folder: write_pi(
        folder,
        modeling_pi05,
        PI05Config,
        modeling_pi05.PI05Policy,
        make_pi05_pre_post_processors,
        tokenizer_max_length=80,
    ),
}
