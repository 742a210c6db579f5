"""What the vision towers leave for the next control step: keys and values of every block, features, ages.

Only for policies whose first cut says which patches are encoded. Every block then attends to all patches: fresh keys
and values where a patch is encoded, those of the carry where it is not; so do the features that leave the tower. Tokens
in front of the patches (class token, registers) are encoded in every step.

Tokens lie on one axis for all views, and keys and values of a token side by side, so that taking some is copying rows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from saccade.export.families.base import PerceivingFamily
from saccade.export.models.vision_tower import VisionTower
from saccade.export.models.vision_transformer import Extend
from saccade.export.steps.signal_store import gather_tokens_at
from saccade.policies.base import Carry, CarrySpec, TokenPolicy
from saccade.policies.signals import NEVER_ENCODED

AGES = "carry.encoded_ages"
"""Control steps since each token's patch was encoded, 0 = in the last one."""


def reuses_towers(policy: TokenPolicy) -> bool:
    """Whether some cut of the policy says which patches are encoded."""
    return any(cut.only_encodes for cut in policy.cuts)


def keys_name(tower: int) -> str:
    """Return the name of a tower's keys and values in the carry."""
    return f"carry.tower{tower}_keys_values"


def features_name(tower: int) -> str:
    """Return the name of a tower's features in the carry."""
    return f"carry.tower{tower}_features"


def tower_memory_specs(policy: TokenPolicy, family: PerceivingFamily) -> tuple[CarrySpec, ...]:
    """Return the carry of the towers, if it is needed.

    Ages, float32 ``(batch, tokens)``; for each tower its keys and values, float32 ``(batch, blocks, tokens, 2 *
    width)``, and its features, float32 ``(batch, tokens, width)``.
    """
    if not reuses_towers(policy):
        return ()
    tokens = family.grid.tokens
    specs = [CarrySpec(AGES, (1, tokens), "float32", initial=NEVER_ENCODED, dims=("batch", "tokens"))]
    for index, tower in enumerate(family.towers):
        width, blocks = tower.config.width, len(tower.blocks)
        specs += [
            CarrySpec(
                keys_name(index),
                (1, blocks, tokens, 2 * width),
                "float32",
                initial=0.0,
                dims=("batch", "blocks", "tokens", "channels"),
            ),
            CarrySpec(
                features_name(index),
                (1, tokens, width),
                "float32",
                initial=0.0,
                dims=("batch", "tokens", "channels"),
            ),
        ]
    return tuple(specs)


class TowerMemory:
    """The towers' keys, values and features of one control step.

    Args:
        tokens: Visual tokens of the whole observation.
        carry: What the last control step left; None: nothing is remembered.
    """

    def __init__(self, tokens: int, carry: Carry | None) -> None:
        self._tokens, self._carry = tokens, carry
        self._written: Carry = {}
        self._places: Tensor | None = None
        self.encoded: Tensor | None = None

    @classmethod
    def of(cls, policy: TokenPolicy, carry: Carry, tokens: int) -> TowerMemory:
        """Read the memory from the carry, if the policy has one."""
        return cls(tokens, carry if reuses_towers(policy) else None)

    @property
    def is_used(self) -> bool:
        """Whether blocks and features go through the memory."""
        return self._carry is not None

    @property
    def ages_before(self) -> Tensor:
        """Control steps since each patch was encoded, float32 ``(batch, tokens)``, 1 = in the last one."""
        ages = self._read(AGES) + 1.0
        return ages.clamp(max=NEVER_ENCODED)

    def encode_only(self, chosen: Tensor) -> None:
        """In this control step only these tokens' patches are encoded.

        Args:
            chosen: Tokens of the whole observation, int64 ``(batch, encoded)``, ascending, as many of each view.
        """
        batch, count = chosen.shape
        everyone = torch.arange(self._tokens, device=chosen.device)
        fresh = torch.arange(count, device=chosen.device).expand(batch, count)
        # Fresh rows lie in front of the remembered ones.
        self._places = (count + everyone).expand(batch, -1).scatter(1, chosen, fresh)
        self.encoded = chosen

    def take_chosen(self, hidden: Tensor, prefix: int) -> Tensor:
        """Return what is encoded of embedded patches ``(pictures, prefix + patches, width)``, behind the prefix."""
        if self.encoded is None:
            return hidden
        patches = _by_robot(hidden[:, prefix:], self._tokens)
        chosen = gather_tokens_at(patches, self.encoded).reshape(hidden.shape[0], -1, hidden.shape[-1])
        return torch.cat([hidden[:, :prefix], chosen], dim=1) if prefix else chosen

    def extend(self, index: int, tower: VisionTower) -> list[Extend | None]:
        """Return what extends keys and values in each block of a tower."""
        blocks = len(tower.blocks)
        if not self.is_used:
            return [None] * blocks
        left: list[Tensor] = []

        def extended(known: Tensor) -> Tensor:
            prefix, block = tower.config.prefix_tokens, len(left)
            fresh = _by_robot(known[:, prefix:], self._encoded_count)
            whole = self._filled(fresh, keys_name(index), block)
            left.append(whole)
            if len(left) == blocks:
                self._written[keys_name(index)] = torch.stack(left, dim=1)
            by_picture = whole.reshape(known.shape[0], -1, known.shape[-1])
            return torch.cat([known[:, :prefix], by_picture], dim=1) if prefix else by_picture

        return [extended] * blocks

    def complete(self, index: int, features: Tensor) -> Tensor:
        """Return a tower's features of every patch.

        Args:
            index: Number of the tower.
            features: Features of the patches that were encoded, ``(batch, encoded, width)``.
        """
        if not self.is_used:
            return features
        whole = self._filled(features, features_name(index))
        self._written[features_name(index)] = whole
        return whole

    def carry(self) -> Carry:
        """Return the memory for the next control step."""
        if not self.is_used:
            return {}
        before = self.ages_before
        ages = torch.zeros_like(before)
        if self.encoded is not None:
            ages = before.scatter(1, self.encoded, 0.0)
        return {AGES: ages, **self._written}

    def _filled(self, fresh: Tensor, name: str, block: int | None = None) -> Tensor:
        """(batch, encoded, channels) -> (batch, tokens, channels), the others' rows from the carry."""
        if self._places is None:
            return fresh
        remembered = self._read(name)
        if block is not None:
            remembered = remembered[:, block]
        return gather_tokens_at(torch.cat([fresh, remembered], dim=1), self._places)

    @property
    def _encoded_count(self) -> int:
        return self._tokens if self.encoded is None else self.encoded.shape[1]

    def _read(self, name: str) -> Tensor:
        assert self._carry is not None  # noqa: S101 - is_used was asked
        return self._carry[name]


def _by_robot(patches: Tensor, each: int) -> Tensor:
    """(pictures, patches, channels) -> (batch, ``each``, channels)."""
    return patches.reshape(-1, each, patches.shape[-1])
