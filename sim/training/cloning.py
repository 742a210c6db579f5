"""Phase 2: behaviour cloning of the expert on top of the frozen tower.

Loss: L1 on normalised action chunks (OpenVLA-OFT, 2502.19645), plus an auxiliary L1 that reads from the last prompt
token where the named block is and where it must go. The auxiliary read-out is thrown away afterwards. Every visual
token is present in training: no token is ever dropped.
"""

from __future__ import annotations

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from saccade.export.families.openvla_oft import OpenVlaOft
from saccade.sim.training.mini import MAX_TEXT_TOKENS
from saccade.sim.training.shards import Shards
from saccade.sim.training.statistics import Statistics

_GOAL_UNIT_M = 0.1
_GRIPPER_WEIGHT = 2.0
"""The gripper's target spans 0..1, the other numbers span -1..1."""


class Cloning(nn.Module):
    """The model and its grounding read-out under the cloning loss."""

    def __init__(self, model: OpenVlaOft) -> None:
        super().__init__()
        self.model = model
        self.goals = nn.Linear(model.config.decoder.width, 6)
        model.vision_backbone.requires_grad_(False)

    def forward(
        self,
        images: Tensor,
        frame: Tensor,
        proprio: Tensor,
        token_ids: Tensor,
        lengths: Tensor,
        actions: Tensor,
        goals: Tensor,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and metrics.

        Args:
            images: uint8 ``(frames, views, height, width, 3)``.
            frame: int64 ``(samples,)``: which frame each sample looks at; two instructions may share one.
            proprio: float32 ``(samples, 4)``, normalised.
            token_ids: int64 ``(samples, max_text_tokens)``.
            lengths: int64 ``(samples,)``: valid text tokens.
            actions: float32 ``(samples, chunk, 4)``, normalised.
            goals: float32 ``(samples, 6)``, units of 0.1 m.
        """
        with torch.no_grad():
            tokens = self.model.visual_tokens(images)
        mask, positions = self.model.sequence_inputs(lengths)
        outputs = self.model.forward_from_tower(tokens[frame], proprio, token_ids, mask, positions)
        action_error = (outputs.actions.float() - actions).abs() * actions.new_tensor(
            [1.0, 1.0, 1.0, _GRIPPER_WEIGHT]
        )
        goal_error = (self.goals(outputs.action_states[:, 0]).float() - goals).abs().mean()
        loss = action_error.mean() + goal_error
        metrics = {
            "action_l1": action_error.mean().detach(),
            "goal_cm": goal_error.detach() * _GOAL_UNIT_M * 100,
        }
        return loss, metrics


class CloningStage:
    """Phase 2 for the training loop."""

    def __init__(
        self, module: Cloning, tokenizer: Tokenizer, statistics: Statistics, shards: Shards, held_out: Shards
    ) -> None:
        self.module = module
        self._tokenizer, self._statistics = tokenizer, statistics
        self._shards, self._held_out = shards, held_out
        self._pairs = shards.whole("label_valid").all(-1)
        self._with_two, self._with_one = np.flatnonzero(self._pairs), np.flatnonzero(~self._pairs)

    def batch(self, rng: np.random.Generator, size: int) -> tuple[Tensor, ...]:
        """Half the samples from frames with one label, half from frames with two (both used)."""
        two = rng.choice(self._with_two, size // 4)
        one = rng.choice(self._with_one, size - 2 * len(two))
        return self._samples(
            self._shards,
            np.concatenate([two, two, one]),
            np.repeat([0, 1, 0], [len(two), len(two), len(one)]),
        )

    def validate(self, device: torch.device) -> dict[str, float]:
        """Action L1 (normalised) and grounding error (cm) on held-out frames."""
        totals: dict[str, list[float]] = {}
        for frames in np.array_split(np.arange(0, len(self._held_out), 4), 10):
            batch = (item.to(device) for item in self._samples(self._held_out, frames, np.zeros_like(frames)))
            for name, value in self.module(*batch)[1].items():
                totals.setdefault(name, []).append(float(value))
        return {name: float(np.mean(values)) for name, values in totals.items()}

    def _samples(self, shards: Shards, frames: np.ndarray, labels: np.ndarray) -> tuple[Tensor, ...]:
        unique, frame = np.unique(frames, return_inverse=True)
        rows = np.arange(len(frames))
        token_ids, lengths = self._encode(
            [shards.instructions[f][label] for f, label in zip(frames, labels, strict=True)]
        )
        actions = self._statistics.action.normalise(shards.gather("chunks", frames)[rows, labels])
        return (
            torch.from_numpy(shards.gather("images", unique)),
            torch.from_numpy(frame),
            torch.from_numpy(
                np.clip(self._statistics.proprio.normalise(shards.gather("proprio", frames)), -1, 1)
            ),
            token_ids,
            lengths,
            torch.from_numpy(actions),
            torch.from_numpy(shards.gather("goals", frames)[rows, labels].reshape(-1, 6) / _GOAL_UNIT_M),
        )

    def _encode(self, instructions: list[str]) -> tuple[Tensor, Tensor]:
        ids = torch.zeros(len(instructions), MAX_TEXT_TOKENS, dtype=torch.int64)
        lengths = torch.zeros(len(instructions), dtype=torch.int64)
        for row, encoding in enumerate(self._tokenizer.encode_batch(instructions)):
            lengths[row] = len(encoding.ids)
            ids[row, : len(encoding.ids)] = torch.tensor(encoding.ids)
        return ids, lengths
