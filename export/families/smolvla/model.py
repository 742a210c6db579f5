"""SmolVLA: a small vision-language model sees and reads, an expert draws a chunk of actions out of noise.

    prefix: [visual: views * tokens] [task, newline, padded on the right] [state]
    suffix: [actions]

Visual tokens and text see each other; the state sees them and itself. Every second expert layer attends to prefix and
actions, actions causal among themselves; the others attend to the prefix alone, through projections of its rotated keys
and of its values that are computed once for all denoising steps.

Source:
    SmolVLA (2506.01844) as in lerobot 0.6.1's ``SmolVLAPolicy``. Pictures are resized with their aspect kept and padded
    with black at the left and the top. State and actions are normalised, the state padded with zeros to the model's
    width; the task ends in a newline.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from saccade.export.families.flow import LayerMemory
from saccade.export.families.flow_family import as_state
from saccade.export.families.smolvla.config import SmolVlaConfig
from saccade.export.families.timed_actions import TimedActions
from saccade.export.models.cross_expert import CrossLayer
from saccade.export.models.decoder import Decoder, RmsNorm, Rotary
from saccade.export.models.expert import ActionTimeMlp, Expert, ExpertLayer, LayerContext
from saccade.export.models.letterbox import Letterbox
from saccade.export.models.pixel_shuffle import PixelShuffleTower


class SmolVla(TimedActions):
    """The SmolVLA model."""

    def __init__(self, config: SmolVlaConfig) -> None:
        decoder, expert, chunk = config.decoder, config.expert, config.flow.chunk
        super().__init__(
            config,
            decoder=Decoder(decoder),
            expert=Expert(
                [
                    (ExpertLayer if config.is_joint(layer) else CrossLayer)(expert)
                    for layer in range(expert.layers)
                ],
                RmsNorm(expert.width, expert.norm_eps),
            ),
            suffix_order=tuple(range(chunk)),
            vision=PixelShuffleTower(config.tower, config.shuffle),
            projector=nn.Linear(config.tower.width * config.shuffle**2, decoder.width, bias=False),
            letterbox=Letterbox(config.camera, config.tower.picture_size, is_centred=False),
        )
        self.config = config
        self.state_proj = nn.Linear(config.state_width, decoder.width)
        self.action_time = ActionTimeMlp(config.flow.action_dim, expert.width)

    def embed_visual(self, tower_tokens: Tensor) -> Tensor:
        """Project tower features ``(batch, alive, vision_width)`` to ``(batch, alive, width)``, scaled as text is."""
        embedded: Tensor = self.projector(tower_tokens) * self.text_scale
        return embedded

    def embed(self, visual: Tensor, token_ids: Tensor, state: Tensor | None) -> Tensor:
        """Lay out the prefix ``(batch, tokens, width)``: visual tokens ``(batch, alive, width)``, text, the state."""
        assert state is not None  # noqa: S101 - the host gives it
        return torch.cat([visual, self.embed_text(token_ids), as_state(self.state_proj, state)], dim=1)

    def prefix_order(self, like: Tensor) -> Tensor | None:
        """Return the order of prefix tokens, int64 ``(batch, tokens)``: pictures and text 0, and the state 1."""
        order = [int(name == "state") for name, tokens in self.layout.segments.items() for _ in range(tokens)]
        return torch.tensor(order, device=like.device).expand(like.shape[0], -1)

    def context(self, index: int, memory: LayerMemory, bias: Tensor, rotary: Rotary) -> LayerContext:
        """Return what expert layer ``index`` makes of its prefix layer.

        A layer that attends to the prefix alone projects what is there, and counts its queries' positions from 0.
        """
        layer = self.expert.layers[index]
        if not isinstance(layer, CrossLayer):
            return super().context(index, memory, bias, rotary)
        key, value = layer.self_attn.project(memory.key, memory.value)
        from_zero = torch.arange(self.flow.chunk, device=key.device).unsqueeze(0)
        seen = bias[:, :, :1, : memory.mask.shape[1]]  # All rows see the same of the prefix.
        return LayerContext(key, value, seen, self.decoder.rotary(from_zero))


def build(config: SmolVlaConfig) -> SmolVla:
    """Return the model without its weights, on the meta device."""
    with torch.device("meta"):
        return SmolVla(config)
