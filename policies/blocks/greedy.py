"""The greedy loop of diversity methods as one operator: opaque to torch's tracer, three ONNX nodes for each pick.

Traced through, ``keep`` iterations cost seconds of export; as an operator they cost one graph node until the ONNX
graph is written. ``ONNX_FORMS`` tells ``torch.onnx.export`` how (its ``custom_translation_table``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from onnxscript import opset20 as op
from torch import Tensor

_SCHEMA = "(Tensor gain, Tensor first, Tensor later, int keep, *, bool add) -> Tensor"


@torch.library.custom_op("saccade::greedy_picks", mutates_args=(), schema=_SCHEMA)
def greedy_picks(gain: Tensor, first: Tensor, later: Tensor, keep: int, *, add: bool) -> Tensor:
    """Pick ``keep`` tokens one after another, each the best by what the picks so far leave.

    The first pick is ``argmax(first)``. With ``state = later``, each pick p then updates ``state`` to
    ``min(state, gain[p])`` or ``state + gain[p]``, and the next pick is ``argmax(state)``; ties go to the lowest index.

    Args:
        gain: What picking one token changes for each other, float32 ``(batch, tokens, tokens)``; its diagonal is minus
            infinity, so that nothing is picked twice.
        first: Score by which the first token is picked, float32 ``(batch, tokens)``.
        later: Score that the later picks start from, float32 ``(batch, tokens)``.
        keep: How many tokens are picked.
        add: Whether gains accumulate by addition; else by minimum.

    Returns:
        int64 ``(batch, keep)`` in the order picked.
    """
    tokens = gain.shape[-1]
    picks = [first.argmax(dim=-1, keepdim=True)]
    state = later
    for _ in range(keep - 1):
        row = torch.gather(gain, 1, picks[-1].unsqueeze(-1).expand(-1, -1, tokens)).squeeze(1)
        state = state + row if add else torch.minimum(state, row)
        picks.append(state.argmax(dim=-1, keepdim=True))
    return torch.cat(picks, dim=1)


@greedy_picks.register_fake
def _(gain: Tensor, first: Tensor, later: Tensor, keep: int, *, add: bool) -> Tensor:
    del first, later, add
    return gain.new_empty((gain.shape[0], keep), dtype=torch.int64)


def unrolled(gain: Any, first: Any, later: Any, keep: int, add: bool) -> Any:
    """Emit the loop unrolled: ArgMax, GatherND and Min or Add for each pick."""
    picks = [op.ArgMax(first, axis=-1, keepdims=1)]
    state = later
    for _ in range(keep - 1):
        row = op.GatherND(gain, picks[-1], batch_dims=1)
        state = op.Add(state, row) if add else op.Min(state, row)
        picks.append(op.ArgMax(state, axis=-1, keepdims=1))
    return picks[0] if keep == 1 else op.Concat(*picks, axis=1)


ONNX_FORMS: Mapping[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.saccade.greedy_picks.default: unrolled
}
