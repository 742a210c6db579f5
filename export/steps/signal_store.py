"""Signals as they are observed, aligned with the visual tokens that are alive."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from torch import Tensor

from saccade.policies.signals import (
    AttentionByRow,
    AttentionReceived,
    Signal,
    ViewScores,
    VisionAttention,
    VisionKeys,
    VisionMap,
)
from saccade.proto.errors import ExportError

SignalT = TypeVar("SignalT")


class SignalStore:
    """Sums each request's contributions and drops what belongs to tokens that were dropped.

    Args:
        requests: Signals that are wanted.
    """

    def __init__(self, requests: Iterable[Signal]) -> None:
        self._requests = tuple(dict.fromkeys(requests))
        self._sums: dict[Signal, Tensor] = {}

    def wanted(self, kind: type[SignalT]) -> tuple[SignalT, ...]:
        """Return the requests of one kind."""
        return tuple(request for request in self._requests if isinstance(request, kind))

    def add(self, request: Signal, value: Tensor) -> None:
        """Add what a layer, a block or the host contributes."""
        before = self._sums.get(request)
        self._sums[request] = value if before is None else before + value

    def replace(self, request: Signal, value: Tensor) -> None:
        """Set what is true at the next cut only."""
        self._sums[request] = value

    def arrange(self, arrange: Callable[[Tensor], Tensor]) -> None:
        """Turn what towers told of patches into what is known of visual tokens.

        Args:
            arrange: Rearranges ``(batch, patches, channels)`` to ``(batch, visual, channels)``; where there are maps,
                also for one picture.
        """
        for request, value in list(self._sums.items()):
            if isinstance(request, VisionKeys):
                self._sums[request] = arrange(value)
            elif isinstance(request, VisionAttention):
                self._sums[request] = arrange(value.unsqueeze(-1)).squeeze(-1)
            elif isinstance(request, VisionMap):
                rows = arrange(value.flatten(0, 1))
                self._sums[request] = arrange(rows.mT).mT.unflatten(0, value.shape[:2])

    def drop(self, kept: Tensor | None) -> None:
        """Keep only the tokens at positions ``kept``, int64 ``(batch, keep)``; None drops all of them."""
        for request, value in list(self._sums.items()):
            if isinstance(request, ViewScores):
                continue
            if kept is None or isinstance(request, VisionMap):
                del self._sums[
                    request
                ]  # a map is of the tokens alive in its block; a later cut cannot ask for it
            else:
                self._sums[request] = gather_tokens_at(value, kept, axis=token_axis(request))

    def has(self, request: Signal) -> bool:
        """Whether anything was observed for ``request``."""
        return request in self._sums

    def read(self, request: Signal) -> Tensor:
        """Return a signal, averaged over the layers or blocks that it names.

        Raises:
            ExportError: Nothing has been observed for ``request`` here.
        """
        if request not in self._sums:
            raise ExportError(
                f"expected {request} to be observed before the cut that asks for it, found nothing."
            )
        total = self._sums[request]
        parts = 1
        if isinstance(request, AttentionReceived):
            parts = len(request.layers)
        elif isinstance(request, VisionAttention):
            parts = len(request.blocks)
        return total if parts == 1 else total / parts


def token_axis(request: Signal) -> int:
    """Return the axis of a signal along which visual tokens lie."""
    return 2 if isinstance(request, AttentionByRow) else 1


def gather_tokens_at(x: Tensor, kept: Tensor, axis: int = 1) -> Tensor:
    """Return the rows of ``x`` at int64 ``(batch, keep)`` positions of ``axis`` (1 or 2)."""
    shape = [1] * x.dim()
    shape[0], shape[axis] = kept.shape
    target = list(x.shape)
    target[axis] = kept.shape[1]
    return torch.gather(x, axis, kept.reshape(shape).expand(target))
