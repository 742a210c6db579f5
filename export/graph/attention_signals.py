"""The attention signals that a policy asked for, collected layer by layer as the decoder runs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from saccade.export.families.sequence import TEXT, VISUAL, SequenceLayout
from saccade.export.models.attention_rows import attention_received
from saccade.export.models.decoder import LayerOutput
from saccade.policies.base import AttentionReceived, QueryRows


class SignalCollector:
    """Sums each request's signal over its layers.

    Args:
        requests: What is wanted, from ``select_signals`` or ``update_signals``.
    """

    def __init__(self, requests: Sequence[AttentionReceived]) -> None:
        self.requests = tuple(requests)
        self._sums: list[Tensor | None] = [None] * len(self.requests)

    def observe(
        self,
        layer: int,
        output: LayerOutput,
        layout: SequenceLayout,
        mask: Tensor,
        bias: Tensor,
        *,
        only_action_rows: bool,
    ) -> None:
        """Add what decoder layer ``layer`` contributes.

        Args:
            layer: Its index.
            output: What it gave.
            layout: Where the segments lie at this layer.
            mask: bool ``(batch, tokens)`` at this layer.
            bias: Its attention bias.
            only_action_rows: ``output`` has the action rows alone.
        """
        for index, request in enumerate(self.requests):
            if layer not in request.layers:
                continue
            if only_action_rows:
                query, weights = output.query, _plain_mean(output.query)
            else:
                query, weights = query_rows(request.rows, output.query, layout, mask)
            rows_bias = bias if bias.shape[2] == 1 else query_rows(request.rows, bias, layout, mask)[0]
            received = attention_received(query, output.key, rows_bias, weights)
            visual, total = layout.take(received, VISUAL), self._sums[index]
            self._sums[index] = visual if total is None else total + visual

    def reads_only_action(self, layer: int) -> bool:
        """Whether nothing but action rows is wanted of ``layer``."""
        return all(r.rows is QueryRows.ACTION for r in self.requests if layer in r.layers)

    def signals(self) -> tuple[Tensor, ...]:
        """Return the mean over layers of each request, float32 ``(batch, visual tokens at those layers)``."""
        return tuple(
            total if len(request.layers) == 1 else total / len(request.layers)
            for total, request in zip(self._sums, self.requests, strict=True)
            if total is not None
        )


def query_rows(rows: QueryRows, x: Tensor, layout: SequenceLayout, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Take the rows that a request names.

    Args:
        rows: Which rows.
        x: ``(batch, heads, tokens, channels)``.
        layout: Where the segments lie.
        mask: bool ``(batch, tokens)``.

    Returns:
        The rows ``(batch, heads, rows, channels)`` and their weights, float32 ``(batch, rows)`` summing to 1.
    """
    if rows is QueryRows.TEXT:
        return x[:, :, layout.span(TEXT)], _mean_of_valid(layout.take(mask, TEXT))
    if rows is QueryRows.ALL:
        return x, _mean_of_valid(mask)
    if rows is QueryRows.ACTION:
        chosen = layout.action_states(x, mask, token_axis=2)
    else:
        index = layout.last_text(mask)[:, None, :, None]
        chosen = torch.gather(x, 2, index.expand(-1, x.shape[1], -1, x.shape[3]))
    return chosen, _plain_mean(chosen)


def _plain_mean(rows: Tensor) -> Tensor:
    """Weights of a mean over all of ``(batch, heads, rows, channels)``."""
    batch, _, count, _ = rows.shape
    return torch.full((batch, count), 1.0 / count, device=rows.device)


def _mean_of_valid(mask: Tensor) -> Tensor:
    """Weights of a mean over the True entries of bool ``(batch, rows)``."""
    valid = mask.float()
    return valid / valid.sum(dim=1, keepdim=True)
