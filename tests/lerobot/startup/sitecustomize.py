"""Runs before everything else in the interpreter of `.venv-lerobot` when this folder is on PYTHONPATH.

`saccade verify` loads tiny checkpoints with the real classes; what stands in for what would have to come from the
network, or is fixed in code, is what README.md says. ``SACCADE_TINY`` names a ``dimensions.json``, or is empty.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import declared_operators  # noqa: F401


def _small(modeling: Any, sizes: dict[str, dict[str, int]]) -> None:
    real = modeling.PaliGemmaForConditionalGenerationWithPiGemma

    def smaller(config: Any) -> Any:
        for name, value in sizes["vision"].items():
            setattr(config.vision_config, name, value)
        config.vision_config.projection_dim = sizes["gemma_2b"]["width"]
        return real(config=config)

    modeling.PaliGemmaForConditionalGenerationWithPiGemma = smaller
    modeling.get_gemma_config = lambda variant: modeling.GemmaConfig(**sizes[variant])


if "SACCADE_TINY" in os.environ:
    from lerobot.policies.pi0 import modeling_pi0
    from lerobot.policies.pi05 import modeling_pi05
    from lerobot.policies.smolvla import smolvlm_with_expert

    if os.environ["SACCADE_TINY"]:
        told = json.loads(Path(os.environ["SACCADE_TINY"]).read_text(encoding="utf-8"))
        for each in (modeling_pi0, modeling_pi05):
            _small(each, told)
    ids = SimpleNamespace(fake_image_token_id=93, global_image_token_id=94)
    smolvlm_with_expert.AutoProcessor = SimpleNamespace(
        from_pretrained=lambda _: SimpleNamespace(tokenizer=ids)
    )
