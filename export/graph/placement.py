"""A control step with a token-selection policy placed in the model, as one exportable module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from saccade.export.families.base import SinglePassFamily
from saccade.export.families.sequence import TEXT, Sequence
from saccade.export.graph.selecting import Named, SelectingModule
from saccade.export.graph.visual_memory import VisualMemory
from saccade.policies.base import Carry, TokenPolicy


class StepOutputs(NamedTuple):
    """What one control step gives.

    Args:
        actions: ``(batch, chunk, action_dim)``, normalised.
        kept: int64 ``(batch, keep)``, original visual indices, ascending: what survived the last cut that kept any.
        fate: int64 ``(batch, tokens)``: for each visual token the original index of the survivor that carries it
            (itself if it was kept), -1 if it was dropped. Follows merges only if the policy merges.
        carry: For the next control step.
        action_states: Final states that the actions were read from, ``(batch, action tokens, width)``.
    """

    actions: Tensor
    kept: Tensor
    fate: Tensor
    carry: Carry
    action_states: Tensor


class SelectingStep(SelectingModule):
    """One control step of a single-pass family at a fixed budget; arguments as :class:`SelectingModule`."""

    def __init__(
        self, family: SinglePassFamily, policy: TokenPolicy, keep: int, *, tells_fate: bool | None = None
    ) -> None:
        super().__init__(family, policy, keep, tells_fate=tells_fate)
        self.family = family

    def forward(
        self,
        images: Tensor,
        proprio: Tensor,
        token_ids: Tensor,
        attention_mask: Tensor,
        position_ids: Tensor,
        *others: Tensor,
    ) -> tuple[Tensor, ...]:
        """Run one control step on flat tensors, as the graph does.

        Args:
            images: uint8 ``(batch, views, height, width, 3)``, RGB.
            proprio: float32 ``(batch, proprio_dim)``, normalised.
            token_ids: int64 ``(batch, max_text_tokens)``.
            attention_mask: bool ``(batch, tokens)``.
            position_ids: int64 ``(batch, tokens)``.
            others: ``task_inputs``, then the carry.

        Returns:
            actions, kept, fate if it is told, and the next carry.
        """
        named = self.named(others)
        out = self.step(images, proprio, token_ids, attention_mask, position_ids, named.carry, named.task)
        fate = (out.fate,) if self.tells_fate else ()
        return out.actions, out.kept, *fate, *(out.carry[spec.name] for spec in self.carry_specs)

    def step(
        self,
        images: Tensor,
        proprio: Tensor,
        token_ids: Tensor,
        attention_mask: Tensor,
        position_ids: Tensor,
        carry: Carry,
        task: Mapping[str, Tensor],
    ) -> StepOutputs:
        """Run one control step; arguments as in :meth:`forward`, carry and task tensors by name."""
        family, layout = self.family, self.family.layout
        survivors = self.watch(
            Named(task, carry), family.decoder.embed_tokens(token_ids), layout.take(attention_mask, TEXT)
        )
        features = self.look(images, survivors)
        hidden = family.embed(family.embed_visual(features), proprio, token_ids)
        sequence = Sequence.entering(layout, hidden, (attention_mask, position_ids), survivors.origin)
        memory = VisualMemory.of(self.policy, carry, layout)
        final = self.decoder_pass.run(sequence, survivors, memory)
        states = family.decoder.norm(final)
        following = {**survivors.update(), **memory.carry()}
        return StepOutputs(
            family.read_actions(states), survivors.last_kept, survivors.fate, following, states
        )
