"""A control step of a single-pass family: observation in, action chunk out, one pass of one decoder."""

from __future__ import annotations

from torch import Tensor

from saccade.export.families.base import SinglePassFamily
from saccade.export.families.sequence import TEXT, Sequence
from saccade.export.steps.acting_step import ActingStep, StepOutputs
from saccade.export.steps.selecting_module import Named
from saccade.export.steps.visual_memory import VisualMemory


class SinglePassStep(ActingStep[SinglePassFamily]):
    """One control step of a single-pass family at a fixed budget; takes what :class:`ActingStep` takes."""

    def step(self, observed: tuple[Tensor, ...], named: Named) -> StepOutputs:
        """Run one control step.

        Args:
            observed: images uint8 ``(batch, views, height, width, 3)``, RGB; proprio float32 ``(batch, proprio_dim)``,
                normalised; token_ids int64 ``(batch, max_text_tokens)``; attention_mask bool ``(batch, tokens)``;
                position_ids int64 ``(batch, tokens)``.
            named: Task tensors and carry, by name.
        """
        images, proprio, token_ids, attention_mask, position_ids = observed
        family, layout = self.family, self.family.layout
        survivors = self.watch(
            named, family.decoder.embed_tokens(token_ids), layout.take(attention_mask, TEXT)
        )
        features = self.look(images, survivors)
        hidden = family.embed(family.embed_visual(features), proprio, token_ids)
        sequence = Sequence.entering(layout, hidden, (attention_mask, position_ids), survivors.origin)
        memory = VisualMemory.of(self.policy, named.carry, layout)
        final = self.decoder_pass.run(sequence, survivors, memory)
        states = family.decoder.norm(final)
        following = {**survivors.update(), **memory.carry()}
        return StepOutputs(
            family.read_actions(states), survivors.last_kept, survivors.fate, following, states
        )
