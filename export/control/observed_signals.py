"""What signals are in the unpruned model, on recorded frames: a policy keeps every token and writes them down."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from saccade.export.families.base import ActingFamily
from saccade.export.steps.selecting_module import initial_state
from saccade.export.steps.step_of import acting_step
from saccade.policies.base import (
    Carry,
    CarrySpec,
    Grid,
    Selection,
    SelectionInputs,
    TokenPolicy,
    UpdateInputs,
    every_token,
)
from saccade.policies.config import PolicyConfig
from saccade.policies.measurements import Table
from saccade.policies.signals import Signal


class _Notes(TokenPolicy):
    """Hands each signal on as carry."""

    name: ClassVar[str] = "notes"
    options = PolicyConfig

    def __init__(self, signals: tuple[Signal, ...]) -> None:
        self.config, self.cuts, self.update_signals = PolicyConfig(), (), signals
        self._names = [f"carry.note_{number}" for number in range(len(signals))]

    def carry_specs(self, grid: Grid) -> tuple[CarrySpec, ...]:
        """Return one tensor for each signal."""
        shape, dims = (1, grid.tokens), ("batch", "tokens")
        return tuple(CarrySpec(name, shape, "float32", 0.0, dims) for name in self._names)

    def select(self, inputs: SelectionInputs, carry: Carry, keep: int) -> Selection:
        """Drop nothing."""
        del carry, keep
        return every_token(inputs)

    def update(self, inputs: UpdateInputs, carry: Carry) -> Carry:
        """Write down what was observed."""
        del carry
        return dict(zip(self._names, inputs.signals, strict=True))


def observe_signals(
    family: ActingFamily, frames: Sequence[tuple[Tensor, ...]], signals: tuple[Signal, ...]
) -> dict[str, Table]:
    """Run the unpruned model and note what each visual token's signals are.

    Args:
        family: Model that is run, in eval mode.
        frames: Host inputs of each frame, batch 1, in the order of the family's ``host_inputs``.
        signals: Signals, one number for each token, such as a policy's ``update_signals`` may be.

    Returns:
        Values ``(frames, tokens)``, by the signal as text.

    Raises:
        ExportError: The model does not have a signal.
    """
    step = acting_step(family, _Notes(signals), family.grid.tokens).eval()
    start = initial_state(step)
    with torch.inference_mode():
        notes = [list(step.outputs((*frame, *start)).carry.values()) for frame in frames]
    return {
        str(signal): tuple(tuple(frame[number][0].tolist()) for frame in notes)
        for number, signal in enumerate(signals)
    }
