"""Decoding with a KV policy written out: one robot, a dictionary for each head's cache, loops over keys."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from saccade.export.models.decoder import Decoder


class ByHand:
    """Keys as projected and values, by position; what may be seen is said by an oracle of the method.

    Args:
        decoder: The model.
        oracle: Makes the oracle of one head (of an eviction method) or of one layer (of a selection method).
        evicts: Which of the two.
        renumbers: Keys take the positions 0, 1, 2, ... when they are attended to.
        vote_distance: How far every key stands from the query in a vote; None = where it is.
    """

    def __init__(
        self,
        decoder: Decoder,
        oracle: Callable[[], Any],
        *,
        evicts: bool,
        sees_attention: bool = False,
        renumbers: bool = False,
        vote_distance: int | None = None,
    ) -> None:
        self.decoder, self.config = decoder, decoder.config
        self.evicts, self.sees_attention, self.renumbers = evicts, sees_attention, renumbers
        self.vote_distance = vote_distance
        heads = range(self.config.kv_heads)
        self.oracles = [[oracle() for _ in (heads if evicts else [0])] for _ in range(self.config.layers)]
        self.cache: list[list[dict[int, tuple[Tensor, Tensor]]]] = [
            [{} for _ in heads] for _ in range(self.config.layers)
        ]

    def step(self, embedding: Tensor, now: int) -> Tensor:
        """Decode one token, ``(width,)``; return its hidden state after the final norm."""
        hidden = embedding
        for number, layer in enumerate(self.decoder.layers):
            normed = layer.input_layernorm(hidden)
            attention = layer.self_attn
            query = attention.queries(normed[None, None])[0, :, 0]
            keys, values = (
                attention.keys(normed[None, None])[0, :, 0],
                attention.values(normed[None, None])[0, :, 0],
            )
            for head, cache in enumerate(self.cache[number]):
                cache[now] = (keys[head], values[head])
            heads = self._evicting(number, query, now) if self.evicts else self._selecting(number, query, now)
            hidden = hidden + attention.o_proj(heads.flatten())
            hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
        final: Tensor = self.decoder.norm(hidden)
        return final

    def _evicting(self, number: int, query: Tensor, now: int) -> Tensor:
        group, heads = self.config.heads // self.config.kv_heads, []
        for head, cache in enumerate(self.cache[number]):
            seen = sorted(cache)
            signal: dict[int, list[float]] = {token: [] for token in seen}
            for own in query[head * group : (head + 1) * group]:
                logits = self._logits(own, now, cache, seen)
                weights = torch.softmax(logits, dim=0)
                heads.append(
                    sum(weight * cache[token][1] for weight, token in zip(weights, seen, strict=True))
                )
                for token, value in zip(seen, weights if self.sees_attention else logits, strict=True):
                    signal[token].append(float(value))
            for token in self.oracles[number][head].step(now, signal):
                del cache[token]
        return torch.stack(heads)

    def _selecting(self, number: int, query: Tensor, now: int) -> Tensor:
        group, heads = self.config.heads // self.config.kv_heads, []
        everything = sorted(self.cache[number][0])
        votes: dict[int, list[float]] = {token: [] for token in everything}
        for index, own in enumerate(query):
            cache = self.cache[number][index // group]
            for token in everything:
                at = (now, token) if self.vote_distance is None else (self.vote_distance, 0)
                votes[token].append(float(self._logit(own, at[0], cache[token][0], at[1])))
        seen = self.oracles[number][0].step(now, query.flatten().tolist(), votes)
        for index, own in enumerate(query):
            cache = self.cache[number][index // group]
            weights = torch.softmax(self._logits(own, now, cache, seen), dim=0)
            heads.append(sum(weight * cache[token][1] for weight, token in zip(weights, seen, strict=True)))
        return torch.stack(heads)

    def _logits(
        self, query: Tensor, now: int, cache: dict[int, tuple[Tensor, Tensor]], seen: list[int]
    ) -> Tensor:
        """Logits of the tokens seen, oldest first; the query's own is the last."""
        places = list(range(len(seen))) if self.renumbers else seen
        here = len(seen) - 1 if self.renumbers else now
        rows = [
            self._logit(query, here, cache[token][0], place)
            for token, place in zip(seen, places, strict=True)
        ]
        return torch.stack(rows)

    def _logit(self, query: Tensor, here: int, key: Tensor, there: int) -> Tensor:
        return (self._turn(query, here) @ self._turn(key, there)) / math.sqrt(self.config.head_dim)

    def _turn(self, x: Tensor, position: int) -> Tensor:
        """Rotary embedding as a complex product."""
        half = self.config.head_dim // 2
        pairs = torch.complex(x[:half], x[half:])
        angles = torch.tensor([position * self.config.rope_theta ** (-place / half) for place in range(half)])
        turned = pairs * torch.polar(torch.ones(half), angles)
        return torch.cat([turned.real, turned.imag])
