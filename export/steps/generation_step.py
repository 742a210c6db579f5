"""The second graph of a generating family: one token in, the logits of the next one out; caches go round."""

from __future__ import annotations

from collections.abc import Sequence as Items

import torch
from torch import Tensor, nn

from saccade.export.families.generating import GeneratingModel
from saccade.export.steps.decode_step import DecodeStep
from saccade.export.steps.kv_cache import KEYS, POSITIONS, VALUES
from saccade.export.steps.prefill_step import CacheSpan, span_name
from saccade.policies.base import Carry, CarrySpec
from saccade.policies.kv.base import KeyPositions, KvPolicy, KvShape
from saccade.policies.registry import build_kv_policy
from saccade.proto.errors import ExportError


class GenerationStep(nn.Module):
    """One token through every span of decoder layers.

    Args:
        family: Model that answers.
        spans: Spans of the prefill that fills the caches.
        policy: Registry name of the KV policy.
        options: Options of the KV policy.

    Raises:
        PolicyError: The KV policy does not fit a span.
        ExportError: The KV policy renumbers positions.
    """

    def __init__(
        self,
        family: GeneratingModel,
        spans: Items[CacheSpan],
        policy: str = "keep_all_kv",
        options: dict[str, object] | None = None,
    ) -> None:
        super().__init__()
        self.family = family
        self.steps = nn.ModuleList(
            DecodeStep(family.decoder, _policy(family, span, policy, options or {}), span.layers)
            for span in spans
        )

    @property
    def carry_specs(self) -> tuple[CarrySpec, ...]:
        """The caches of all spans, then what the KV policy remembers of each."""
        named = [(number, spec) for number, step in enumerate(self.decode_steps) for spec in step.carry_specs]
        cache = [(number, spec) for number, spec in named if spec.name in _CACHE]
        notes = [(number, spec) for number, spec in named if spec.name not in _CACHE]
        return tuple(_renamed(spec, number) for number, spec in (*cache, *notes))

    @property
    def decode_steps(self) -> tuple[DecodeStep, ...]:
        """The decode steps, one for each span of layers."""
        return tuple(step for step in self.steps if isinstance(step, DecodeStep))

    def initial_carry(self, batch: int = 1) -> Carry:
        """Return empty caches, and what the KV policy remembers before the first token."""
        return {
            spec.name: torch.full((batch, *spec.shape[1:]), spec.initial, dtype=getattr(torch, spec.dtype))
            for spec in self.carry_specs
        }

    def initial_notes(self, batch: int) -> tuple[Tensor, ...]:
        """Return what the KV policy remembers before the first token."""
        caches = len(_CACHE) * len(self.steps)
        return tuple(self.initial_carry(batch).values())[caches:]

    def forward(self, token_ids: Tensor, position_ids: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Run one step on flat tensors, as the graph does.

        Args:
            token_ids: The last token, int64 ``(batch, 1)``.
            position_ids: Rotary position of that token, int64 ``(batch, 1)``.
            state: Tensors of the carry, in the order of ``carry_specs``.

        Returns:
            float32 logits ``(batch, vocab_size)``, and the next carry.
        """
        names = [spec.name for spec in self.carry_specs]
        carry = dict(zip(names, state, strict=True))
        offset = len(self.family.prompt_layout.items) - self.family.first_position
        hidden, following = self.family.decoder.embed_tokens(token_ids), Carry()
        for number, step in enumerate(self.decode_steps):
            own = {spec.name: carry[span_name(spec.name, number)] for spec in step.carry_specs}
            hidden, written = step.step(hidden, position_ids, own, offset)
            following |= {span_name(name, number): tensor for name, tensor in written.items()}
        return self.family.logits(hidden[:, 0]), *(following[name] for name in names)


_CACHE = (KEYS, VALUES, POSITIONS)


def _renamed(spec: CarrySpec, number: int) -> CarrySpec:
    return CarrySpec(span_name(spec.name, number), spec.shape, spec.dtype, spec.initial, spec.dims)


def _policy(family: GeneratingModel, span: CacheSpan, name: str, options: dict[str, object]) -> KvPolicy:
    config = family.decoder.config
    shape = KvShape(len(span.layers), config.heads, config.kv_heads, config.head_dim, span.capacity)
    policy = build_kv_policy(name, options, shape)
    if policy.positions is not KeyPositions.ORIGINAL:
        raise ExportError(
            f"KV policy {name!r}: positions: expected {KeyPositions.ORIGINAL.value!r}, since a prompt's keys are "
            f"cached rotated, found {policy.positions.value!r}."
        )
    return policy
