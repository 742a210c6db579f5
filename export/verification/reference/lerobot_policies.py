"""SmolVLA, π0 and π0.5 as lerobot runs them: its own pre-processor, policy and post-processor, in float32."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.configs.policies import PreTrainedConfig
from lerobot.policies.factory import get_policy_class, make_pre_post_processors
from numpy.typing import NDArray

from .stages import Stages, listen, pixels_last, wrap

TOKENS, MASK = "observation.language.tokens", "observation.language.attention_mask"
STATE = "observation.state"
_UNLOADED = ("Could not load", "Missing keys", "Unexpected keys")
"""What lerobot prints, and then goes on with weights that it drew."""


def run(request: Mapping[str, Any], given: Mapping[str, NDArray[Any]], stages: Stages) -> str:
    """Run the policy of a checkpoint.

    Args:
        request: ``checkpoint``, ``tokenizer`` (a folder), ``cameras`` (their names in the policy) and ``instructions``.
        given: ``images`` uint8 ``(frames, cameras, height, width, 3)``, ``proprio`` float32 ``(frames, numbers)``,
            ``noise`` float32 ``(frames, chunk, width)``.
        stages: Told of every stage.

    Returns:
        Name of the class.
    """
    policy = _load(Path(request["checkpoint"]))
    steps = {
        "tokenizer_processor": {"tokenizer_name": request["tokenizer"]},
        "device_processor": {"device": "cpu"},
    }
    before, after = make_pre_post_processors(
        policy.config,
        pretrained_path=request["checkpoint"],
        preprocessor_overrides=steps,
        postprocessor_overrides={"device_processor": {"device": "cpu"}},
    )
    heard = _Heard(policy)
    for frame, instruction in enumerate(request["instructions"]):
        stages.frame = frame
        batch = before(_observation(request["cameras"], given, frame, instruction))
        heard.clear()
        actions = policy.predict_action_chunk(batch, noise=torch.from_numpy(given["noise"][frame])[None])
        stages.put("prompt tokens", batch[TOKENS][0][batch[MASK][0].bool()])
        stages.put("proprioception", batch[STATE][0][: given["proprio"].shape[1]])
        heard.tell(stages, len(request["cameras"]))
        stages.put("actions", actions[0])
        stages.put("actions in units", after(actions)[0])
    return f"{type(policy).__module__}.{type(policy).__name__}"


def _load(folder: Path) -> Any:
    """Return the policy; SmolVLA's backbone comes from the checkpoint too, instead of in bfloat16 from the Hub."""
    config = PreTrainedConfig.from_pretrained(folder)
    config.device = "cpu"
    for name, value in (("dtype", "float32"), ("load_vlm_weights", False), ("compile_model", False)):
        if hasattr(config, name):
            setattr(config, name, value)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        policy = get_policy_class(config.type).from_pretrained(folder, config=config, strict=True)
    for line in said.getvalue().splitlines():
        if any(sign in line for sign in _UNLOADED):
            raise ValueError(f"lerobot did not load the weights: {line}")
    return policy.float().eval()


def _observation(
    cameras: list[str], given: Mapping[str, NDArray[Any]], frame: int, instruction: str
) -> dict[str, Any]:
    """Return what a robot gives lerobot: pictures float 0..1, channels first."""
    pictures = {
        name: torch.from_numpy(picture.astype(np.float32) / 255.0).permute(2, 0, 1)
        for name, picture in zip(cameras, given["images"][frame], strict=True)
    }
    return {**pictures, STATE: torch.from_numpy(given["proprio"][frame]), "task": instruction}


class _Heard:
    """What the inner parts of a policy did since they were last cleared.

    Args:
        policy: SmolVLA, π0 or π0.5.
    """

    def __init__(self, policy: Any) -> None:
        model = policy.model
        if hasattr(model, "vlm_with_expert"):
            both, prepare = model.vlm_with_expert, "prepare_images"
            projector = both.get_vlm_model().connector.modality_projection.proj
        else:
            both, prepare = model.paligemma_with_expert, "_preprocess_images"
            projector = both.paligemma.model.multi_modal_projector.linear
        self.pictures = wrap(policy, prepare)
        self.features = listen(projector, to_input=True)
        self.prefixes = wrap(model, "embed_prefix")
        self.passes = wrap(both, "forward")

    def clear(self) -> None:
        """Forget."""
        for heard in (self.pictures, self.features, self.prefixes, self.passes):
            heard.clear()

    def tell(self, stages: Stages, cameras: int) -> None:
        """Tell the stages of one observation; absent cameras, which are masked, are left out."""
        stages.put("pictures", pixels_last(torch.cat(self.pictures[0][0][:cameras])))
        features = torch.cat([seen[0] for seen in self.features[:cameras]])
        stages.put("vision features", features)
        embedded, mask = self.prefixes[0][0][0], self.prefixes[0][1][0].bool()
        stages.put("projected tokens", embedded[mask][: len(features)])
        stages.put("decoder input", embedded[mask])
        layers = self.passes[0][1].layers
        kept = [torch.stack([layer.keys[0], layer.values[0]])[:, :, mask] for layer in layers]
        stages.put("decoder keys and values", torch.stack(kept))
