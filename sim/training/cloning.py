"""Phase 2: behaviour cloning of the scripted expert on top of the frozen tower.

Loss: L1 on normalised action chunks (OpenVLA-OFT, 2502.19645), plus two auxiliary grounding losses from simulator
state: the last prompt token must know where the named thing is and where it must go (L1), and after two decoder
layers every visual token must know whether it shows one of them (cross-entropy). Their read-outs are thrown away
afterwards. Every visual token is present in training: no token is ever dropped.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from saccade.export.families.openvla_oft.model import OpenVlaOft
from saccade.proto.statistics import Statistics
from saccade.sim.training.shards import Shards, in_batches

_GOAL_UNIT_M = 0.1
_MARK_LAYER = 1
"""Decoder layer after which visual tokens must know whether the instruction is about them."""
_MARK_WEIGHT = 5.0
_MIN_MARK_SHARE = 0.08
_BACKGROUND = 0
"""The first slot of every table."""
_GRIPPER_WEIGHT = 2.0
"""Weight of the gripper in the loss: its target spans 0..1, the other numbers span -1..1."""


class Cloning(nn.Module):
    """The model and its grounding read-out, under the cloning loss."""

    def __init__(self, model: OpenVlaOft) -> None:
        super().__init__()
        self.model = model
        self.goals = nn.Linear(model.config.decoder.width, 6)
        self.marks = nn.Linear(model.config.decoder.width, 2)
        model.vision_backbone.requires_grad_(False)

    def forward(  # noqa: PLR0913, PLR0917 - a batch: one tensor each
        self,
        images: Tensor,
        frame: Tensor,
        proprio: Tensor,
        token_ids: Tensor,
        lengths: Tensor,
        actions: Tensor,
        goals: Tensor,
        marks: Tensor,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and metrics of a batch.

        Args:
            images: Images of each frame, uint8 ``(frames, views, height, width, 3)``.
            frame: Index of the frame that each sample looks at, int64 ``(samples,)``; two instructions may share one.
            proprio: Normalised proprioception, float32 ``(samples, 4)``.
            token_ids: Padded instruction of each sample, int64 ``(samples, max_text_tokens)``.
            lengths: How many text tokens are valid, int64 ``(samples,)``.
            actions: Normalised actions to imitate, float32 ``(samples, chunk, 4)``.
            goals: Where the named thing is and where it must go, float32 ``(samples, 6)``, units of 0.1 m.
            marks: Whether a token shows the named thing, or the goal: float32 ``(samples, visual tokens, 2)``, 1 or 0.
        """
        with torch.no_grad():
            tokens = self.model.visual_tokens(images)
        states, marked = self._states(tokens[frame], proprio, token_ids, lengths)
        action_error = (self.model.read_actions(states).float() - actions).abs() * actions.new_tensor(
            [1.0, 1.0, 1.0, _GRIPPER_WEIGHT]
        )
        goal_error = (self.goals(states[:, 0]).float() - goals).abs().mean()
        mark_error = functional.binary_cross_entropy_with_logits(marked.float(), marks)
        loss = action_error.mean() + goal_error + _MARK_WEIGHT * mark_error
        metrics = {
            "action_l1": action_error.mean().detach(),
            "goal_cm": goal_error.detach() * _GOAL_UNIT_M * 100,
            "mark": mark_error.detach(),
        }
        return loss, metrics

    def _states(
        self, tokens: Tensor, proprio: Tensor, token_ids: Tensor, lengths: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Final action states, and the marks of the visual tokens half-way."""
        model, decoder, layout = self.model, self.model.decoder, self.model.layout
        mask, positions = model.sequence_inputs(lengths)
        rotary, bias = decoder.rotary(positions), decoder.attention_bias(mask)
        hidden = model.embed(model.embed_visual(tokens), proprio, token_ids)
        for layer in decoder.layers[: _MARK_LAYER + 1]:
            hidden = layer(hidden, rotary, bias).hidden
        marked = self.marks(layout.take(hidden, "visual"))
        for layer in decoder.layers[_MARK_LAYER + 1 : -1]:
            hidden = layer(hidden, rotary, bias).hidden
        take = partial(layout.answer_states, attention_mask=mask)
        return decoder.norm(decoder.layers[-1](hidden, rotary, bias, take).hidden), marked


class CloningStage:
    """Phase 2, behaviour cloning, for the training loop."""

    def __init__(
        self, module: Cloning, tokenizer: Tokenizer, statistics: Statistics, shards: Shards, held_out: Shards
    ) -> None:
        self.module = module
        self._tokenizer, self._statistics = tokenizer, statistics
        self._shards, self._held_out = shards, held_out
        valid = shards.whole("label_valid")
        self._with_two = np.flatnonzero(valid.all(-1))
        self._with_one = np.flatnonzero(valid[:, 0] & ~valid[:, 1])
        self._held_out_frames = np.arange(len(held_out))

    def batch(self, rng: np.random.Generator, size: int) -> tuple[Tensor, ...]:
        """Draw samples: half from frames with one label, half from frames with two (both used)."""
        two = rng.choice(self._with_two, size // 4, replace=False)
        one = rng.choice(self._with_one, size - 2 * len(two), replace=False)
        return self._samples(
            self._shards,
            np.concatenate([two, two, one]),
            np.repeat([0, 1, 0], [len(two), len(two), len(one)]),
        )

    def validate(self, device: torch.device) -> dict[str, float]:
        """Return action L1 (normalised) and grounding error (cm) on held-out frames."""
        totals: dict[str, list[float]] = {}
        for frames in in_batches(self._held_out_frames[::4]):
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
        goals = shards.gather("goals", frames)[rows, labels]
        actions = self._statistics.action.normalise(shards.gather("chunks", frames)[rows, labels])
        proprio = self._statistics.proprio.normalise(shards.gather("proprio", frames))
        return (
            torch.from_numpy(shards.gather("images", unique)),
            torch.from_numpy(frame),
            torch.from_numpy(proprio),
            token_ids,
            lengths,
            torch.from_numpy(actions),
            torch.from_numpy(goals.reshape(-1, 6) / _GOAL_UNIT_M),
            torch.from_numpy(_marks(shards, frames, goals)),
        )

    def _encode(self, instructions: list[str]) -> tuple[Tensor, Tensor]:
        ids = torch.zeros(len(instructions), self.module.model.config.max_text_tokens, dtype=torch.int64)
        lengths = torch.zeros(len(instructions), dtype=torch.int64)
        for row, encoding in enumerate(self._tokenizer.encode_batch(instructions)):
            lengths[row] = len(encoding.ids)
            ids[row, : len(encoding.ids)] = torch.tensor(encoding.ids)
        return ids, lengths


def _marks(shards: Shards, frames: np.ndarray, goals: np.ndarray) -> np.ndarray:
    """Which visual tokens show the named thing, or the goal: float32 ``(samples, visual tokens, 2)``.

    A goal that is a place on the table (push) or the block itself (reach) marks no second thing.
    """
    positions = shards.gather("slot_positions", frames)
    counts = shards.gather("slot_counts", frames).reshape(len(frames), -1, positions.shape[1])
    shown = counts >= _MIN_MARK_SHARE * counts.sum(-1, keepdims=True)
    is_it = np.abs(goals[:, :, None] - positions[:, None]).max(-1) < 1e-4  # (samples, 2, slots)
    is_it[:, :, _BACKGROUND] = False
    return (shown[:, :, None] & is_it[:, None]).any(-1).astype(np.float32)
