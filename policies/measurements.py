"""What the unpruned model does on recorded frames: the ground on which a policy decides when its graph is built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from saccade.policies.signals import Signal

Table = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Measurements:
    """What attention and heads did in the unpruned model, on recorded frames.

    A policy is given what it asks for: its calibration signals, or else all the rest.

    Args:
        text_to_visual: Share of the text rows' attention that goes to visual tokens, for each frame and decoder layer:
            ``(frames, layers)``.
        visual_to_text: Share of the visual rows' attention that goes to text tokens: ``(frames, layers)``.
        action_to_visual: Share of the action rows' attention that goes to visual tokens: ``(frames, layers)``.
        head_outputs: Mean absolute output of each decoder layer and head over frames, tokens and channels:
            ``(layers, heads)``.
        signals: What a policy's ``calibration_signals`` were, ``(frames, tokens)`` each, by the signal as text.
    """

    text_to_visual: Table = ()
    visual_to_text: Table = ()
    action_to_visual: Table = ()
    head_outputs: Table = ()
    signals: Mapping[str, Table] = field(default_factory=dict)

    def of(self, signal: Signal) -> Table:
        """Return what a signal was, ``(frames, tokens)``."""
        return self.signals[str(signal)]
