"""A control step with a token-selection policy placed in the model, as one exportable module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from saccade.export.families.base import SinglePassFamily
from saccade.export.families.sequence import TEXT, Sequence
from saccade.export.graph.decoder_pass import DecoderPass
from saccade.export.graph.placement_rules import check_placement, check_schedule
from saccade.export.graph.survivors import Survivors, take_survivors
from saccade.export.graph.tower_pass import run_towers
from saccade.export.graph.visual_memory import VisualMemory, memory_specs
from saccade.policies.base import Carry, CarrySpec, Place, TokenPolicy
from saccade.policies.signals import ViewScores
from saccade.proto.manifest_rules import VIEW_SCORES


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


class SelectingStep(nn.Module):
    """One control step at a fixed budget.

    What lies before a cut sees every token that is alive there, what lies behind it the survivors, at their original
    positions. With a budget of all tokens no cut is made: the result is the unpruned model's, and the policy only
    observes. The last decoder layer computes the action rows alone, since nobody reads the others.

    Args:
        family: The model.
        policy: The policy.
        keep: The budget: visual tokens of the profile.
        tells_fate: Say for every token what carries it; None = if the policy merges.

    Raises:
        ExportError: The policy asks for something that cannot be had where it acts.
    """

    def __init__(
        self, family: SinglePassFamily, policy: TokenPolicy, keep: int, *, tells_fate: bool | None = None
    ) -> None:
        super().__init__()
        check_placement(policy, family)
        self.family = family
        self.policy = policy
        self.keep = keep
        self.tells_fate = policy.merges if tells_fate is None else tells_fate
        self.counts = None if keep >= family.grid.tokens else policy.schedule(keep)
        if self.counts is not None:
            check_schedule(policy, self.counts, family.grid)
        self.decoder_pass = DecoderPass(family, policy, selects=self.counts is not None)

    @property
    def survivors(self) -> int:
        """Length of the kept set: what survives the last cut that keeps any token."""
        counts = [count for count in self.counts or () if count > 0]
        return counts[-1] if counts else self.family.grid.tokens

    @property
    def task_inputs(self) -> tuple[str, ...]:
        """Names of the tensors that the host sets once per task."""
        wanted = {type(signal) for cut in self.policy.cuts for signal in cut.signals}
        return (VIEW_SCORES,) if ViewScores in wanted else ()

    @property
    def carry_specs(self) -> tuple[CarrySpec, ...]:
        """The carry tensors, in the order of the graph's inputs and outputs."""
        return (*self.policy.carry_specs(self.family.grid), *memory_specs(self.policy, self.family))

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
        tasks = len(self.task_inputs)
        names = [spec.name for spec in self.carry_specs]
        carry = dict(zip(names, others[tasks:], strict=True))
        task = dict(zip(self.task_inputs, others[:tasks], strict=True))
        out = self.step(images, proprio, token_ids, attention_mask, position_ids, carry, task)
        fate = (out.fate,) if self.tells_fate else ()
        return out.actions, out.kept, *fate, *(out.carry[name] for name in names)

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
        text_mask = layout.take(attention_mask, TEXT)
        survivors = Survivors(
            self.policy,
            self.counts,
            family.grid,
            carry,
            family.decoder.embed_tokens(token_ids),
            text_mask,
            tells_fate=self.tells_fate,
        )
        if VIEW_SCORES in task:
            survivors.signals.add(ViewScores(), task[VIEW_SCORES])
        features = self._cut_features(run_towers(family, images, survivors), survivors)
        hidden = family.embed(family.embed_visual(features), proprio, token_ids)
        if features.shape[1] < layout.visual:
            # Mask and positions came for the whole sequence: what was dropped before the decoder goes from them too.
            attention_mask = layout.gather_visual(attention_mask, survivors.origin)
            position_ids = layout.gather_visual(position_ids, survivors.origin)
        sequence = Sequence(hidden, attention_mask, position_ids, layout.with_visual(features.shape[1]))
        memory = VisualMemory.of(self.policy, carry, layout)
        final = self.decoder_pass.run(sequence, survivors, memory)
        states = family.decoder.norm(final)
        following = {**survivors.update(), **memory.carry()}
        return StepOutputs(
            family.read_actions(states), survivors.last_kept, survivors.fate, following, states
        )

    @staticmethod
    def _cut_features(features: Tensor, survivors: Survivors) -> Tensor:
        """Make the cuts between towers and projector."""
        for number in survivors.cuts_at(Place.PROJECTOR, 0):
            selection = survivors.cut(number, features)
            if selection is not None:
                features = take_survivors(features, selection)
        return features


def initial_state(step: SelectingStep) -> tuple[Tensor, ...]:
    """Return task tensors and carry after a reset, in graph order."""
    tasks = tuple(torch.ones(1, step.family.grid.views) for _ in step.task_inputs)
    carry = tuple(
        torch.full(spec.shape, spec.initial, dtype=getattr(torch, spec.dtype)) for spec in step.carry_specs
    )
    return (*tasks, *carry)
