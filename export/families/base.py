"""What the exporter asks of a model family: lay out the input, expose towers and decoder, read the actions."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from saccade.export.families.sequence import SequenceLayout
from saccade.export.models.decoder import Decoder
from saccade.export.models.vision_tower import VisionTower
from saccade.policies.base import Grid


class PerceivingFamily(Protocol):
    """What all families have: towers whose features become visual tokens in the sequence of a decoder."""

    @property
    def towers(self) -> tuple[VisionTower, ...]:
        """The vision towers, run block by block; their channels are concatenated for each patch."""
        ...

    @property
    def decoder(self) -> Decoder:
        """The decoder, run layer by layer."""
        ...

    @property
    def layout(self) -> SequenceLayout:
        """The decoder's sequence with every visual token."""
        ...

    @property
    def grid(self) -> Grid:
        """How visual tokens tile the views."""
        ...

    @property
    def keeps_patches(self) -> bool:
        """Visual tokens are the towers' patches, one for one and in their order: then scores of patches are theirs."""
        ...

    @property
    def views_are_pictures(self) -> bool:
        """The tokens of each view come from the patches of one picture alone: then a map of its patches is theirs."""
        ...

    def arrange(self, features: Tensor) -> Tensor:
        """Make visual tokens ``(batch, visual, channels)`` of tower features ``(batch, patches, vision_width)``."""
        ...

    def arrange_signal(self, signal: Tensor) -> Tensor:
        """Make what is known of visual tokens ``(batch, visual, channels)`` of what is known of their patches."""
        ...

    def embed_visual(self, tower_tokens: Tensor) -> Tensor:
        """Project tower features ``(batch, alive, vision_width)`` to ``(batch, alive, width)``."""
        ...


class SinglePassFamily(PerceivingFamily, Protocol):
    """A family whose control step is one pass of one decoder: observation in, action chunk out."""

    def sequence_inputs(self, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return mask and positions, ``(batch, tokens)``, for text lengths int64 ``(batch,)``."""
        ...

    def embed(self, visual: Tensor, proprio: Tensor, token_ids: Tensor) -> Tensor:
        """Return the decoder's input ``(batch, tokens, width)`` around the visual tokens that are alive."""
        ...

    def embed_observation(self, images: Tensor, proprio: Tensor, token_ids: Tensor) -> Tensor:
        """Return the decoder's input ``(batch, tokens, width)`` with every visual token."""
        ...

    def read_actions(self, action_states: Tensor) -> Tensor:
        """Turn final states ``(batch, action tokens, width)`` into actions ``(batch, chunk, action_dim)``."""
        ...
