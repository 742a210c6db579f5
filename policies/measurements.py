"""What the unpruned model does on recorded frames: the ground on which a policy decides when its graph is built."""

from __future__ import annotations

from dataclasses import dataclass

Table = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Measurements:
    """What attention and heads did in the unpruned model, on recorded frames.

    Args:
        text_to_visual: Share of the text rows' attention that goes to visual tokens, for each frame and decoder layer:
            ``(frames, layers)``.
        visual_to_text: Share of the visual rows' attention that goes to text tokens: ``(frames, layers)``.
        action_to_visual: Share of the action rows' attention that goes to visual tokens: ``(frames, layers)``.
        head_outputs: Mean absolute output of each decoder layer and head over frames, tokens and channels:
            ``(layers, heads)``.
    """

    text_to_visual: Table
    visual_to_text: Table
    action_to_visual: Table
    head_outputs: Table
