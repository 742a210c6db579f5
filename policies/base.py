"""The contract of a token-selection policy: a pure function of declared signals and carry.

A policy names its *cuts*, the places where it drops visual tokens, and *which* signals it wants at each; the exporter
computes only those, beside the fused attention, and wires them in. Nothing is hidden in module state, so a policy can
be tested without a model and exported without tricks.

Names of axes: ``batch`` robots, ``tokens`` visual tokens of the whole observation (all views, in
(view, row, column) order), ``alive`` those that no earlier cut dropped, ``keep`` those that survive a cut, ``dim``
channels of a token.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar

import torch
from torch import Tensor

from saccade.policies.config import PolicyConfig
from saccade.policies.measurements import Measurements
from saccade.policies.signals import Signal
from saccade.proto.errors import PolicyError


@dataclass(frozen=True)
class Grid:
    """How visual tokens tile the views: index = (view * rows + row) * columns + column.

    Args:
        views: How many cameras there are, or cameras times the frames of a history.
        rows: How many rows of tokens a view has.
        columns: How many columns of tokens a view has.
        newline: Whether the last column of each row is a line break, not a patch (LLaVA's ``image_newline``).
        irregular: Whether the one row of tokens tiles no grid: an overview and the tiles of a picture, say.
    """

    views: int
    rows: int
    columns: int
    newline: bool = False
    irregular: bool = False

    @property
    def tokens(self) -> int:
        """Number of visual tokens of one observation."""
        return self.views * self.per_view

    @property
    def per_view(self) -> int:
        """Number of visual tokens of one view."""
        return self.rows * self.columns

    @property
    def view(self) -> Grid:
        """The grid of one view alone."""
        return Grid(1, self.rows, self.columns, self.newline, self.irregular)

    @property
    def units(self) -> dict[str, float]:
        """What options that follow the size of a view are shares of: its number of patches, its longer side."""
        patches = self.columns - int(self.newline)
        return {"patches": float(self.rows * patches), "side": float(max(self.rows, patches))}

    def require_rows(self, policy: str) -> None:
        """Refuse a policy that reads rows and columns where there are none.

        Raises:
            PolicyError: The grid is irregular.
        """
        if self.irregular:
            raise PolicyError(
                f"policy {policy!r}: expected visual tokens in rows and columns, found {self.tokens} that tile no "
                "grid, as of a tiled picture; choose a policy that ranks tokens whatever their place."
            )


class Place(str, Enum):
    """Where a cut lies."""

    TOWER = "tower"
    """Between two blocks of the vision tower. Each view keeps the same number of tokens."""
    PROJECTOR = "projector"
    """Between the vision tower and the projector."""
    DECODER = "decoder"
    """Before a decoder layer; before layer 0 is the decoder's entry."""


class Behind(str, Enum):
    """What layers behind a cut know of the tokens it dropped."""

    NOTHING = "nothing"
    """Dropped tokens are gone."""
    LAST_STEP = "last step"
    """Keys and values of dropped tokens are those of the control step in which they were last computed.

    At the decoder's entry every layer attends to all tokens so. In front of the first tower block every block does, and
    the features of the dropped patches are of that step too: behind the tower no token is missing, so that such a cut
    says which patches are *encoded*, and later cuts choose among all tokens."""


@dataclass(frozen=True)
class Cut:
    """One place where a policy drops visual tokens.

    Args:
        place: Tower, projector or decoder.
        index: The tower block or decoder layer in front of which the cut lies; 0 at the projector.
        signals: What :meth:`TokenPolicy.select` sees there.
        behind: What later layers know of dropped tokens.
    """

    place: Place
    index: int
    signals: tuple[Signal, ...] = ()
    behind: Behind = Behind.NOTHING

    @property
    def order(self) -> tuple[int, int]:
        """Sort key along the model."""
        return list(Place).index(self.place), self.index

    @property
    def only_encodes(self) -> bool:
        """Whether the cut says which patches the towers encode, and no token is missing behind them."""
        return self.place is Place.TOWER and self.behind is Behind.LAST_STEP


@dataclass(frozen=True)
class CarrySpec:
    """One tensor that a control step hands to the next.

    Args:
        name: Name in the graph, e.g. ``carry.action_history``.
        shape: Shape of one session, batch first (``batch`` is 1 on the robot).
        dtype: ``float32`` or ``int64``.
        initial: Value that ``reset`` fills the tensor with.
        dims: Name of each axis.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    initial: float
    dims: tuple[str, ...]


@dataclass(frozen=True)
class SelectionInputs:
    """What a policy sees at a cut.

    Between two tower blocks the views are folded into the batch: ``batch`` is then robots times views and ``grid``
    that of one view; only ``text`` keeps one row for each robot.

    Args:
        cut: Which of the policy's cuts this is, from 0.
        signals: One tensor for each request of the cut, in the order of the requests.
        embeddings: What stands for each token, ``(batch, alive, dim)``: hidden states in the tower, features at the
            projector, the decoder's input embeddings from there on.
        origin: Original index of each token that is alive, int64 ``(batch, alive)``, ascending.
        grid: The grid of original tokens.
        text: Decoder input embeddings of the instruction, ``(batch, text, dim)``.
        text_mask: bool ``(batch, text)``, True = valid.
        memo: Notes that earlier cuts of the same control step wrote down, ``(batch, alive)`` each.
    """

    cut: int
    signals: tuple[Tensor, ...]
    embeddings: Tensor
    origin: Tensor
    grid: Grid
    text: Tensor
    text_mask: Tensor
    memo: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def alive(self) -> int:
        """Number of tokens to choose from."""
        return int(self.embeddings.shape[1])


@dataclass(frozen=True)
class Selection:
    """What survives a cut.

    Args:
        kept: int64 ``(batch, keep)``: positions among the tokens alive, ascending, unique.
        mix: float32 ``(batch, keep, alive)``, or None: survivor i becomes ``sum_j mix[i, j] * token j``. A merged token
            lives on at the position of the survivor that it was merged into.
        memo: Notes that go with the tokens to later cuts, float32 ``(batch, alive)`` each.
    """

    kept: Tensor
    mix: Tensor | None = None
    memo: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class UpdateInputs:
    """What a policy sees after the action is known.

    Args:
        signals: One tensor for each request in ``update_signals``, in their order and in original coordinates:
            ``(batch, tokens)``, 0 where a token was absent from the layers.
        present: float32 ``(batch, tokens)``, 1 where the token was alive where the signals were read.
        kept: int64 ``(batch, kept)``, the tokens that survived the last cut; None = all, nothing was cut.
        encoded: int64 ``(batch, encoded)``, the tokens whose patches were encoded in this control step; None = all.
    """

    signals: tuple[Tensor, ...]
    present: Tensor
    kept: Tensor | None = None
    encoded: Tensor | None = None


Carry = dict[str, Tensor]


@dataclass(frozen=True)
class TowerShape:
    """What a policy may know of one vision tower.

    Args:
        blocks: How many blocks run; those that a family leaves out at the end do not count.
        has_class_token: Whether there is a class token whose attention can be read.
    """

    blocks: int
    has_class_token: bool


@dataclass(frozen=True)
class ModelShape:
    """What a policy may know of the model when it is built.

    Args:
        layers: Number of decoder layers.
        grid: How visual tokens tile the views.
        towers: The vision towers whose channels make up a visual token.
        causal: Whether a decoder row sees only what stands before it.
        patch_values: How many numbers one raw patch has: side * side * 3.
        acts_in_one_pass: Whether action rows are in the sequence from the first layer on, beside every visual token.
    """

    layers: int
    grid: Grid
    towers: tuple[TowerShape, ...] = (TowerShape(blocks=1, has_class_token=False),)
    causal: bool = False
    patch_values: int = 12
    acts_in_one_pass: bool = False


@dataclass(frozen=True)
class MotionGate:
    """A rule for the host: run every token while the robot moves slowly, whatever profile was asked for.

    A *displacement* is the length of the net translation that one action chunk commands. The motion of a moment is the
    sum of the last ``window`` displacements; it is compared with the motion at each of the ``look_back`` chunks
    before. Above all of them the robot is fast, below all of them slow, otherwise it is what it was. It is slow after
    a reset, until there are ``window + look_back`` displacements.

    Args:
        window: How many displacements are added up.
        look_back: How many earlier windows the latest one is compared with.
    """

    window: int
    look_back: int


@dataclass(frozen=True)
class CameraCut:
    """A rule for the host: run every token where a camera suddenly shows another picture.

    The *change* of a view is the share of its pixels that would need another colour to have those of the last control
    step, wherever they are.

    Args:
        change: Change of any view from which the control step runs with every token, above 0 and at most 1.
    """

    change: float


class TokenPolicy(ABC):
    """A token-selection policy. The defaults are those of a policy without memory and with one cut.

    A subclass is built from its options and the :class:`ModelShape`, and sets in its ``__init__`` what differs.

    Attributes:
        name: Registry key, file name and manifest string.
        options: The class of its options.
        config: The options with every default resolved; ``config.as_dict()`` goes into the bundle's manifest.
        cuts: Where tokens are dropped, in order along the model.
        update_signals: Signals for :meth:`update`, all from layers between the same two cuts.
        warmup_steps: Control steps after a reset that the host must run with every token.
        refresh_every: Every n-th control step runs with every token; 0 means never.
        gate: Rule by which motion decides that every token is needed; None = never.
        camera_cut: Rule by which a sudden other picture decides that every token is needed; None = never.
        merges: Whether some selection may return ``mix``.
        removed_heads: Decoder layer to heads that are removed from it when the graph is built.
        needs_calibration: Whether the exporter calls :meth:`calibrate` before it builds the graphs.
        calibration_signals: Signals, one number for each token, that :meth:`calibrate` looks at in the unpruned model:
            such as ``update_signals`` may be. Empty = shares of attention and outputs of heads.
    """

    name: ClassVar[str]
    options: ClassVar[type[PolicyConfig]]
    config: PolicyConfig
    cuts: tuple[Cut, ...]
    update_signals: tuple[Signal, ...] = ()
    warmup_steps: int = 0
    refresh_every: int = 0
    gate: MotionGate | None = None
    camera_cut: CameraCut | None = None
    merges: bool = False
    removed_heads: Mapping[int, tuple[int, ...]] = {}
    needs_calibration: bool = False
    calibration_signals: tuple[Signal, ...] = ()

    @abstractmethod
    def __init__(self, config: Any, shape: ModelShape) -> None:
        """Build the policy from its options for one model."""

    def schedule(self, keep: int) -> tuple[int, ...]:
        """Return how many tokens survive each cut, for a profile with a budget of ``keep`` tokens.

        The usual rule: the budget is what survives the last cut, and earlier cuts drop their published share of what
        is dropped in all. A policy with another rule says so in its docstring. 0 drops every visual token. The count of
        a cut that only encodes is its own, as many of each view.

        Raises:
            PolicyError: The budget cannot be met.
        """
        return (keep,) * len(self.cuts)

    def calibrate(self, measured: Measurements) -> Mapping[str, object]:
        """Return the options that follow from what the unpruned model does, over those that were given."""
        del measured
        return {}

    def carry_specs(self, grid: Grid) -> tuple[CarrySpec, ...]:
        """Return the carry tensors of one session."""
        del grid
        return ()

    @abstractmethod
    def select(self, inputs: SelectionInputs, carry: Carry, keep: int) -> Selection:
        """Choose the ``keep`` tokens that survive the cut ``inputs.cut``. Not called where ``keep`` is 0."""

    def update(self, inputs: UpdateInputs, carry: Carry) -> Carry:
        """Return the carry for the next control step: same names, shapes and dtypes."""
        del inputs
        return carry


def decoder_cut(layer: int, *signals: Signal) -> tuple[Cut, ...]:
    """Return the cuts of a policy that cuts once, before decoder ``layer`` (0 = the entry)."""
    return (Cut(Place.DECODER, layer, signals),)


def projector_cut(*signals: Signal) -> tuple[Cut, ...]:
    """Return the cuts of a policy that cuts once, between tower and projector."""
    return (Cut(Place.PROJECTOR, 0, signals),)


def every_token(inputs: SelectionInputs) -> Selection:
    """Return the selection that drops nothing."""
    batch, alive = inputs.embeddings.shape[:2]
    return Selection(torch.arange(alive, device=inputs.embeddings.device).expand(batch, alive))
