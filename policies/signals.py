"""The signals that a policy may ask for. The exporter computes those that are asked for, and nothing else.

A signal is a request: plain data that says what is wanted and from where. Attention is read as *rows* beside the fused
attention, as many as a request needs: one for a class token, a few for text or actions. Requests for all rows
(:class:`VisionMap`, ``VisionRows.PATCHES``, ``QueryRows.ALL``, ``QueryRows.BEFORE_ACTION``) compute the whole matrix of
the blocks or layers they name, and no other.

Every tensor is float32 with ``alive`` visual tokens on its second axis, in (view, row, column) order, unless said
otherwise. What was observed before a cut is gathered to the tokens that survived it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias


class QueryRows(str, Enum):
    """Which query rows of the decoder an attention signal averages over.

    ``ALL`` and ``BEFORE_ACTION``, the rows in front of the first action token where there is one, divide each column
    by the number of rows that can see it, so that a causal mask favours no token.
    """

    TEXT = "text"
    LAST = "last"
    ALL = "all"
    BEFORE_ACTION = "before_action"
    ACTION = "action"


class VisionRows(str, Enum):
    """Which query rows of the vision tower a signal averages over: the class token's, or every patch's."""

    CLASS = "class"
    PATCHES = "patches"


@dataclass(frozen=True)
class AttentionReceived:
    """Attention that visual tokens received from ``rows`` at decoder ``layers`` that have run: ``(batch, alive)``.

    The mean over heads, over valid rows and over ``layers`` of the softmax weights, normalised over *all* keys.
    """

    rows: QueryRows
    layers: tuple[int, ...]


@dataclass(frozen=True)
class AttentionByRow:
    """Attention that visual tokens received from each text row at one decoder layer: ``(batch, text, alive)``.

    The mean over heads; rows of padding are meaningless, the inputs' ``text_mask`` tells.
    """

    layer: int


@dataclass(frozen=True)
class AttentionAhead:
    """Attention that visual tokens *would* receive at the decoder layer behind the cut: ``(batch, alive)``.

    Args:
        rows: Query rows that are averaged over, as are the heads.
        rotary: Whether queries and keys are rotated as the layer does.
        softmax: Whether to normalise over all keys; else the mean of the scaled logits.
    """

    rows: QueryRows
    rotary: bool = True
    softmax: bool = True


@dataclass(frozen=True)
class Transition:
    """How much decoder ``layers`` changed each visual token, summed over them: ``(batch, alive)``.

    For attention and for the MLP, each without its residual, u its normalised input and y its output:
    ``exp(1 - cos(u, y)) / sum over all tokens * |y| / |u|``.

    Source:
        TransPrune (2507.20630), token transition variation as its code computes it (c9e8284).
    """

    layers: tuple[int, ...]


@dataclass(frozen=True)
class VisionAttention:
    """Attention that patches received from ``rows`` in vision ``blocks``: ``(batch, alive)``.

    The mean over heads, rows and blocks of softmax weights normalised over patches alone: class token and registers
    take no share.
    """

    rows: VisionRows
    blocks: tuple[int, ...]
    tower: int = 0


@dataclass(frozen=True)
class VisionMap:
    """The attention of one vision block, head by head: ``(batch * views, heads, alive in a view, alive in a view)``.

    Rows and columns are patches. It costs a full attention matrix in that block.
    """

    block: int
    tower: int = 0


@dataclass(frozen=True)
class VisionKeys:
    """Key vectors of one vision block, heads side by side: ``(batch, alive, width)``.

    ``mean_of_heads``: their average instead, ``(batch, alive, head_dim)``.
    """

    block: int
    tower: int = 0
    mean_of_heads: bool = False


@dataclass(frozen=True)
class Pixels:
    """The raw pixels behind each token, 0 to 255, RGB interleaved, row by row: ``(batch, alive, values)``."""


@dataclass(frozen=True)
class ViewScores:
    """How much each view matters for the task, a tensor the host sets once per task: ``(batch, views)``.

    Non-negative; all ones until the host knows better. Not aligned with tokens.
    """


@dataclass(frozen=True)
class EncodedAge:
    """Control steps since each token's patch was last encoded, 1 = in the last one: ``(batch, alive)``.

    Where it never was, ``NEVER_ENCODED``. Asked for at the cut that says which patches are encoded.
    """


NEVER_ENCODED = 2.0**20
"""Age of a patch that was not encoded since the reset; ages do not grow beyond it."""

Signal: TypeAlias = (
    AttentionReceived
    | AttentionByRow
    | AttentionAhead
    | Transition
    | VisionAttention
    | VisionMap
    | VisionKeys
    | Pixels
    | ViewScores
    | EncodedAge
)
