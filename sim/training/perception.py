"""Phase 1: teach the vision tower to see, from dense labels that the simulator gives for free.

For every patch: the share of pixels of each class, and where the thing that dominates the patch has its centre
(scene view: world coordinates; wrist view: relative to the tool centre point, since the camera moves with it). The
linear read-outs are thrown away afterwards; the tower keeps its tokens' knowledge of *what* and *where*.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from saccade.export.models.vision_backbone import VisionBackbone
from saccade.sim.training.shards import Shards, in_batches

_MIN_SHARE = 0.08
"""A slot must fill this share of a patch to be worth locating from there."""
_POSITION_UNIT_M = 0.1
_BACKGROUND, _ARM = 0, 1
"""The first slots of every table."""


class PatchReadout(nn.Module):
    """Linear read-outs of tower tokens: ``(..., width)`` to class logits and a position in units of 0.1 m."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.classes = nn.Linear(width, num_classes)
        self.position = nn.Linear(width, 3)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return class logits ``(..., classes)`` and position ``(..., 3)``."""
        return self.classes(tokens), self.position(tokens)


def patch_targets(shards: Shards, frames: np.ndarray, num_classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return dense labels of some frames.

    Returns:
        Class shares ``(frames, views, patches, classes)``; position in units of 0.1 m ``(frames, views, patches, 3)``;
        bool mask ``(frames, views, patches)`` of patches that have a position.
    """
    counts = torch.from_numpy(shards.gather("slot_counts", frames)).float()
    shares = counts / counts.sum(-1, keepdim=True)
    classes = torch.from_numpy(shards.gather("slot_classes", frames)).long()
    one_hot = functional.one_hot(classes, num_classes).float()
    class_shares = torch.einsum("fvps,fsc->fvpc", shares, one_hot)

    things = shares.clone()
    things[..., _BACKGROUND] = 0
    things[:, 1, :, _ARM] = 0  # the wrist camera rides on the arm: its offset to the TCP is no news
    share, slot = things.max(-1)
    positions = torch.from_numpy(shards.gather("slot_positions", frames))
    tcp = positions[:, _ARM]
    where = positions.gather(1, slot.flatten(1)[..., None].expand(-1, -1, 3)).view(*slot.shape, 3)
    where[:, 1] -= tcp[:, None]
    return class_shares, where / _POSITION_UNIT_M, share >= _MIN_SHARE


def perception_loss(
    logits: Tensor, position: Tensor, class_shares: Tensor, where: Tensor, has_position: Tensor
) -> tuple[Tensor, Tensor]:
    """Return cross-entropy over class shares plus L1 of the position.

    Returns:
        The loss, and the mean absolute position error per axis in metres (detached).
    """
    entropy = -(class_shares * functional.log_softmax(logits.float(), -1)).sum(-1).mean()
    error = (position.float() - where).abs()[has_position].mean()
    return entropy + 2 * error, error.detach() * _POSITION_UNIT_M


class Perception(nn.Module):
    """The vision tower and its read-outs, under the dense loss."""

    def __init__(self, backbone: VisionBackbone, width: int, num_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.num_classes = num_classes
        self.readout = PatchReadout(width, num_classes)

    def forward(
        self, images: Tensor, class_shares: Tensor, where: Tensor, has_position: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return loss and metrics of images, uint8 ``(frames, views, height, width, 3)``, with their dense labels."""
        logits, position = self.readout(
            self.backbone(images.flatten(0, 1).float()).unflatten(0, images.shape[:2])
        )
        loss, error = perception_loss(logits, position, class_shares, where, has_position)
        return loss, {"loss": loss.detach(), "position_cm": error * 100}


class PerceptionStage:
    """Phase 1, dense labels for the vision tower, for the training loop."""

    def __init__(self, module: Perception, shards: Shards, held_out: Shards) -> None:
        self.module = module
        self._shards, self._held_out = shards, held_out

    def batch(self, rng: np.random.Generator, size: int) -> tuple[Tensor, ...]:
        """Draw random frames with their dense labels."""
        return self._labelled(self._shards, rng.integers(len(self._shards), size=size))

    def validate(self, device: torch.device) -> dict[str, float]:
        """Return position error by view (cm) and share of patches whose main class is right, held out."""
        totals: list[tuple[float, float, float]] = []
        for frames in in_batches(np.arange(0, len(self._held_out), 8)):
            images, classes, where, has = (item.to(device) for item in self._labelled(self._held_out, frames))
            tokens = self.module.backbone(images.flatten(0, 1).float()).unflatten(0, images.shape[:2])
            logits, position = self.module.readout(tokens)
            error = (position.float() - where).abs().mean(-1) * _POSITION_UNIT_M * 100
            right = (logits.argmax(-1) == classes.argmax(-1)).float().mean()
            totals.append(
                (error[:, 0][has[:, 0]].mean().item(), error[:, 1][has[:, 1]].mean().item(), right.item())
            )
        scene, wrist, right = np.mean(totals, axis=0)
        return {"scene_cm": float(scene), "wrist_cm": float(wrist), "class_accuracy": float(right)}

    def _labelled(self, shards: Shards, frames: np.ndarray) -> tuple[Tensor, ...]:
        images = torch.from_numpy(shards.gather("images", frames))
        return images, *patch_targets(shards, frames, self.module.num_classes)
