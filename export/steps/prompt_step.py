"""What every graph of a generating model begins with: pictures and text in, the decoder's first answer out."""

from __future__ import annotations

from collections.abc import Sequence as Items
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from saccade.export.families.generating import GeneratingModel
from saccade.export.families.sequence import TEXT, Sequence
from saccade.export.steps.decoder_with_cuts import LayerKeys
from saccade.export.steps.selecting_module import Named, SelectingModule
from saccade.export.steps.survivors import Survivors
from saccade.export.steps.visual_memory import VisualMemory
from saccade.policies.base import TokenPolicy

GeneratingT_co = TypeVar("GeneratingT_co", bound=GeneratingModel, covariant=True)


class ReadPrompt(NamedTuple):
    """A prompt that the decoder has read.

    Args:
        state: Final state that the first token of the answer is read from, ``(batch, width)``.
        survivors: Visual tokens that are alive; its ``update`` gives the policy's next carry.
        cached: Keys and values of each layer.
        memory: Keys and values of visual tokens, for the next control step.
    """

    state: Tensor
    survivors: Survivors
    cached: Items[LayerKeys]
    memory: VisualMemory


class PromptStep(SelectingModule[GeneratingT_co]):
    """A generating model and a policy at a fixed budget of visual tokens; takes what :class:`SelectingModule` takes."""

    def __init__(
        self, family: GeneratingT_co, policy: TokenPolicy, keep: int, *, tells_fate: bool | None = None
    ) -> None:
        super().__init__(family, policy, keep, tells_fate=tells_fate)
        whole = family.sequence_inputs(torch.tensor([family.prompt_layout.max_text_tokens]))
        self.register_buffer("positions", whole.positions, persistent=False)
        self.register_buffer("order", whole.order, persistent=False)

    def read(self, images: Tensor, token_ids: Tensor, attention_mask: Tensor, named: Named) -> ReadPrompt:
        """Read a prompt; positions and order are constants, since the frame fixes them.

        Args:
            images: uint8 ``(batch, views, height, width, 3)``, RGB.
            token_ids: Text of the prompt, int64 ``(batch, max_text_tokens)``.
            attention_mask: bool ``(batch, tokens)``, True = valid.
            named: Task tensors and carry, by name.
        """
        family, layout = self.family, self.family.layout
        survivors = self.watch(
            named, family.decoder.embed_tokens(token_ids), layout.take(attention_mask, TEXT)
        )
        features = self.look(images, survivors)
        hidden = family.embed(family.embed_visual(features), token_ids)
        survivors.deep = family.embed_deep(survivors.deep)
        positions, order = (table.expand(hidden.shape[0], *table.shape[1:]) for table in self._tables())
        sequence = Sequence.entering(layout, hidden, (attention_mask, positions), survivors.origin, order)
        cached: list[LayerKeys] = []
        memory = VisualMemory.of(self.policy, named.carry, layout)
        final = self.decoder_pass.run(sequence, survivors, memory, cached)
        return ReadPrompt(family.decoder.norm(final[:, 0]), survivors, cached, memory)

    def _tables(self) -> tuple[Tensor, Tensor]:
        """Positions and order of every token."""
        positions, order = self.positions, self.order
        assert isinstance(positions, Tensor) and isinstance(order, Tensor)  # noqa: S101 - buffers have no type
        return positions, order
