"""What the unpruned model does on recorded frames: the ground on which a policy decides when its graph is built."""

from __future__ import annotations

from dataclasses import dataclass

Table = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Measurements:
    """Statistics of the unpruned model.

    Args:
        text_to_visual: For each frame and decoder layer, the share of the text rows' attention that goes to visual
            tokens: ``(frames, layers)``.
        visual_to_text: The share of the visual rows' attention that goes to text tokens: ``(frames, layers)``.
        action_to_visual: The share of the action rows' attention that goes to visual tokens: ``(frames, layers)``.
        head_outputs: For each decoder layer and head the mean absolute output over frames, tokens and channels:
            ``(layers, heads)``.
    """

    text_to_visual: Table
    visual_to_text: Table
    action_to_visual: Table
    head_outputs: Table
