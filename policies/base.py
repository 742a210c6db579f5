"""The contract of a token-selection policy: a pure function of declared signals and carry.

A policy names *where* it acts and *which* signals it wants; the exporter computes only those, beside the fused
attention, and wires them in. Nothing is hidden in module state, so a policy can be tested without a model and
exported without tricks.

Shapes use these words: ``batch`` robots, ``tokens`` visual tokens of the whole observation (all views, in
(view, row, column) order), ``keep`` tokens that survive, ``dim`` model width.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar, Protocol, runtime_checkable

from torch import Tensor

from saccade.policies.config import PolicyConfig


class QueryRows(str, Enum):
    """Which query rows an attention signal averages over."""

    TEXT = "text"
    LAST = "last"
    ALL = "all"
    ACTION = "action"


@dataclass(frozen=True)
class AttentionReceived:
    """A request: attention that visual tokens receive from ``rows`` at decoder ``layers``.

    The signal is the mean over heads, over the valid query rows and over ``layers`` of the softmax weights
    (normalised over *all* keys), restricted to visual columns: float32 ``(batch, tokens)``.
    """

    rows: QueryRows
    layers: tuple[int, ...]


@dataclass(frozen=True)
class Grid:
    """How visual tokens tile the views: index = (view * rows + row) * columns + column."""

    views: int
    rows: int
    columns: int

    @property
    def tokens(self) -> int:
        """Number of visual tokens of one observation."""
        return self.views * self.rows * self.columns


@dataclass(frozen=True)
class CarrySpec:
    """One tensor that a control step hands to the next.

    Args:
        name: Name in the graph, e.g. ``carry.action_history``.
        shape: Shape of one session, batch first (``batch`` is 1 on the robot).
        dtype: ``float32`` or ``int64``.
        initial: Value that ``reset`` fills the tensor with.
        dims: A word for each axis.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    initial: float
    dims: tuple[str, ...]


@dataclass(frozen=True)
class SelectionInputs:
    """What a policy sees when it selects.

    Args:
        attention: One float32 ``(batch, tokens)`` tensor for each request in ``select_signals``, same order.
        embeddings: Decoder input embeddings of the visual tokens, ``(batch, tokens, dim)``.
        grid: The token grid.
    """

    attention: tuple[Tensor, ...]
    embeddings: Tensor
    grid: Grid


@dataclass(frozen=True)
class UpdateInputs:
    """What a policy sees after the action is known.

    Args:
        attention: One float32 ``(batch, tokens)`` tensor for each request in ``update_signals``, scattered to
            original coordinates, 0 where a token was absent from the layer.
        present: float32 ``(batch, tokens)``, 1 where the token was alive where the signals were read.
    """

    attention: tuple[Tensor, ...]
    present: Tensor


Carry = dict[str, Tensor]


@runtime_checkable
class TokenPolicy(Protocol):
    """A token-selection policy that acts once, between decoder layers.

    Attributes:
        name: Registry key, file name and manifest string.
        insertion_layer: Layers ``< insertion_layer`` see every visual token; 0 is the decoder's entry.
        select_signals: Signals for :meth:`select`; their layers must be ``< insertion_layer``.
        update_signals: Signals for :meth:`update`; all from layers before ``insertion_layer``, or all from it on.
        warmup_steps: Control steps after a reset that the host must run with every token.
        refresh_every: Every n-th control step runs with every token; 0 means never.
    """

    name: ClassVar[str]
    insertion_layer: int
    select_signals: tuple[AttentionReceived, ...]
    update_signals: tuple[AttentionReceived, ...]
    warmup_steps: int
    refresh_every: int

    @property
    def config(self) -> PolicyConfig:
        """The options with every default resolved; ``config.as_dict()`` goes into the bundle's manifest."""
        ...

    def carry_specs(self, grid: Grid) -> tuple[CarrySpec, ...]:
        """Return the carry tensors of one session."""
        ...

    def select(self, inputs: SelectionInputs, carry: Carry, keep: int) -> Tensor:
        """Choose the visual tokens that survive.

        Returns:
            int64 ``(batch, keep)``: original token indices, ascending, unique.
        """
        ...

    def update(self, inputs: UpdateInputs, carry: Carry) -> Carry:
        """Return the carry for the next control step: same names, shapes and dtypes."""
        ...


@dataclass(frozen=True)
class DecoderShape:
    """What a policy may know of the decoder when it is built.

    Args:
        layers: Number of decoder layers.
        grid: The visual token grid.
    """

    layers: int
    grid: Grid = field(default_factory=lambda: Grid(1, 1, 1))
