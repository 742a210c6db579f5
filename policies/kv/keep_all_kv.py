"""keep_all_kv: every entry of the cache stays and every query attends to all of them: a decoder without a KV policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from saccade.policies.base import Carry
from saccade.policies.config import PolicyConfig
from saccade.policies.kv.base import Attended, KvInputs, KvShape, QuerySelectionPolicy


@dataclass(frozen=True, kw_only=True)
class KeepAllKvConfig(PolicyConfig):
    """keep_all_kv has no options."""


class KeepAllKv(QuerySelectionPolicy):
    """Attends to every slot that holds a token."""

    name: ClassVar[str] = "keep_all_kv"
    options = KeepAllKvConfig

    def __init__(self, config: KeepAllKvConfig, shape: KvShape) -> None:
        self.config, self.shape = config, shape
        self.attended = shape.capacity

    def attend(self, inputs: KvInputs, carry: Carry) -> Attended:
        """Choose every token; what is free attends to nothing."""
        slots = torch.arange(self.attended, device=inputs.positions.device)
        batch = inputs.positions.shape[0]
        return Attended(slots.expand(batch, -1), inputs.valid[:, 0], carry)
