"""What a graph of static shapes fixes and a published checkpoint leaves open."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """How a model will be used.

    Args:
        views: Pictures of one observation: cameras, or images of one question.
        frames: Frames of a video; 0 = still pictures.
        frames_per_second: Frames a second of a video as the model gets it; some families tell the time of a frame.
        image_size: Height and width of the pictures as they come, pixels; families that tile or resize by aspect lay
            out their tokens for it. None = what the checkpoint's tower takes.
        max_text_tokens: Room for the user's text and what closes the prompt.
        before: Token ids before the first picture, with whatever begins a sequence.
        between: Token ids between two pictures.
        state_dim: Numbers of proprioception that the robot has, of those that the model takes; None = all.
        action_dim: Numbers of an action that the robot has, of those that the model gives; None = all.
        chunk: Actions in a chunk, where the checkpoint leaves it open (OpenVLA-OFT as published); None = as published.
        crop: Share of a picture's area that is looked at, its middle; None = as the family's own evaluation has it.
        statistics_key: Data set of the checkpoint's statistics whose units actions are in; None = the only one.
    """

    views: int = 1
    frames: int = 0
    frames_per_second: float = 2.0
    image_size: tuple[int, int] | None = None
    max_text_tokens: int = 64
    before: tuple[int, ...] = ()
    between: tuple[int, ...] = ()
    state_dim: int | None = None
    action_dim: int | None = None
    chunk: int | None = None
    crop: float | None = None
    statistics_key: str | None = None
