"""What the exporter asks of a model family: lay out the input, expose towers and decoder, read the actions."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple, Protocol

from torch import Tensor, nn

from saccade.export.families.sequence import SequenceLayout
from saccade.export.models.decoder import Decoder
from saccade.export.models.vision_tower import VisionTower
from saccade.export.models.vision_transformer import VisionTransformer
from saccade.policies.base import Grid


class StepKind(Enum):
    """How a family is run: which module of :mod:`saccade.export.steps` places a policy in it."""

    SINGLE_PASS = "single_pass"  # noqa: S105 - no password
    """One pass of one decoder gives a chunk of actions: OpenVLA-OFT."""
    AUTOREGRESSIVE = "autoregressive"
    """One pass for the prompt, and one for each further action token: OpenVLA."""
    FLOW = "flow"
    """A prefix, then Euler steps of an action expert that reads it: π0, π0.5, SmolVLA."""
    PROMPT = "prompt"
    """One pass for the prompt, then a token at a time, as many as are asked for: families that answer."""


class Work(NamedTuple):
    """What a part of a model multiplies and reads.

    Args:
        macs: Multiply-accumulates of the part's matrix products.
        weights: Parameters that the part reads.
    """

    macs: int
    weights: int


class Pooling(NamedTuple):
    """Tokens that are projected to the decoder's width first, and pooled then.

    Args:
        projected: Tokens that go through the projector.
        macs: Multiply-accumulates of pooling the tokens.
    """

    projected: int
    macs: int


class PerceivingFamily(Protocol):
    """What all families have: towers whose features become visual tokens in the sequence of a decoder."""

    @property
    def step_kind(self) -> StepKind:
        """How the family is run."""
        ...

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

    def fit(self, pixels: Tensor) -> Tensor:
        """Bring pixels ``(images, height, width, 3)``, 0 to 255, to the size that the towers take."""
        ...

    @property
    def fit_macs(self) -> int:
        """Multiply-accumulates of :meth:`fit` for all pictures of an observation."""
        ...

    @property
    def pictures(self) -> int:
        """Pictures that each tower sees in one observation: views, tiles, frames, or clips of frames."""
        ...

    @property
    def projectors(self) -> tuple[nn.Module, ...]:
        """What brings one visual token from the towers to the decoder's width; each runs once a token."""
        ...

    @property
    def pooling(self) -> Pooling | None:
        """How tokens are pooled behind the projector; None = they are not."""
        ...

    @property
    def state_values(self) -> Work:
        """What embedding the robot's state takes."""
        ...

    @property
    def folded_macs(self) -> int:
        """Multiply-accumulates that the module shows and the graph folds into constants."""
        ...

    @property
    def folded_parameters(self) -> int:
        """Parameters that were given up for constants when the model was loaded."""
        ...

    @property
    def keeps_patches(self) -> bool:
        """Whether visual tokens are the towers' patches, one for one, in order: scores of patches are theirs then."""
        ...

    @property
    def views_are_pictures(self) -> bool:
        """Whether each view's tokens come from the patches of one picture: a map of the patches is theirs then."""
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


class ActingFamily(PerceivingFamily, Protocol):
    """A family whose control step is one graph: observation in, action chunk out, a policy's cuts in between."""

    @property
    def towers(self) -> tuple[VisionTransformer, ...]:
        """The vision towers, run block by block; their channels are concatenated for each patch."""
        ...

    @property
    def host_inputs(self) -> tuple[str, ...]:
        """Names of what a control step takes from the host, in order: of those that the manifest's rules know."""
        ...

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the pictures that the graph takes, pixels."""
        ...

    @property
    def segments(self) -> Mapping[str, int]:
        """The whole sequence, name to tokens, in order: what the host lays mask and positions out over."""
        ...

    @property
    def action_shape(self) -> tuple[int, int]:
        """Actions in a chunk, and numbers in an action."""
        ...

    @property
    def noise_dim(self) -> int:
        """Numbers of noise for each action of a chunk; 0 = actions are not drawn out of noise."""
        ...


class SinglePassFamily(ActingFamily, Protocol):
    """A family whose control step is one pass of one decoder."""

    def sequence_inputs(self, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return mask and positions, ``(batch, tokens)``, for text lengths int64 ``(batch,)``."""
        ...

    def embed(self, visual: Tensor, proprio: Tensor, token_ids: Tensor) -> Tensor:
        """Return the decoder's input ``(batch, tokens, width)`` around the visual tokens that are alive."""
        ...

    def embed_observation(self, images: Tensor, proprio: Tensor, token_ids: Tensor) -> Tensor:
        """Return the decoder's input ``(batch, tokens, width)`` with every visual token."""
        ...

    @property
    def proprio_dim(self) -> int:
        """Numbers of proprioception."""
        ...

    @property
    def action_parts(self) -> tuple[nn.Module, ...]:
        """What runs once for each action of the chunk, to read it from the final states."""
        ...

    def read_actions(self, action_states: Tensor) -> Tensor:
        """Turn final states ``(batch, action tokens, width)`` into actions ``(batch, chunk, action_dim)``."""
        ...
