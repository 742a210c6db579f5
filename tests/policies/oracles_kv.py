"""Plain versions of the KV-cache methods: one robot, one head, tokens named by position, loops spelled out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Rows = Mapping[int, Sequence[float]]
"""Position of a cached token to one number for each query head of the group."""


@dataclass
class ScissorhandsHead:
    """Count, over the last ``window`` queries, how often a token got less than 1 / (tokens seen)."""

    budget: int
    window: int
    recent: int
    evict: int
    start: int = 0
    cached: list[int] = field(default_factory=list)
    votes: list[dict[int, int]] = field(default_factory=list)

    def step(self, now: int, attention: Rows) -> list[int]:
        """Take in what the query at ``now`` gave each cached token; return the positions to evict."""
        self.cached.append(now)
        return self.judge(
            now, {token: votes_against(attention[token], len(self.cached)) for token in self.cached}
        )

    def judge(self, now: int, votes: dict[int, int]) -> list[int]:
        """The same from votes: how many query heads passed over each token."""
        self.votes.append(votes)
        if len(self.cached) < self.budget:
            return []
        unimportance = {
            token: sum(query.get(token, 0) for query in self.votes[-self.window :]) for token in self.cached
        }
        newest = range(now - self.recent + 1, now + 1)
        free_to_go = [token for token in self.cached if token >= self.start and token not in newest]
        order = sorted(free_to_go, key=lambda token: (-unimportance[token], token))
        evicted = sorted(order[: self.evict])
        self.cached = [token for token in self.cached if token not in evicted]
        return evicted


def votes_against(row: Sequence[float], seen: int) -> int:
    """How many query heads gave a token less than the uniform share; what is not finite is nothing."""
    return sum((weight if math.isfinite(weight) else 0.0) < 1.0 / seen for weight in row)


@dataclass
class SpAttenHead:
    """first ``start`` | ``important`` highest of the middle | last ``recent - evict``, whenever the cache is full."""

    start: int
    important: int
    recent: int
    evict: int
    cumulative: bool = False
    cached: list[int] = field(default_factory=list)
    received: dict[int, float] = field(default_factory=dict)

    def step(self, now: int, signal: Rows) -> list[int]:
        """Take in logits (current) or attention (cumulative); return the positions to evict."""
        self.cached.append(now)
        importance = {token: float(sum(signal[token])) for token in self.cached}
        if self.cumulative:
            for token in self.cached:
                clean = sum(weight if math.isfinite(weight) else 0.0 for weight in signal[token])
                self.received[token] = self.received.get(token, 0.0) + clean
                importance[token] = self.received[token] / (now - token + 1)
        if len(self.cached) < self.start + self.important + self.recent:
            return []
        newest = self.recent - self.evict
        first = [token for token in self.cached if token < self.start]
        last = [token for token in self.cached if token > now - newest]
        middle = [token for token in self.cached if token not in first and token not in last]
        ranked = sorted(middle, key=lambda token: (-_number(importance[token]), -token))
        kept = {*first, *ranked[: self.important], *last}
        evicted = [token for token in self.cached if token not in kept]
        self.cached = [token for token in self.cached if token in kept]
        return evicted


def _number(value: float) -> float:
    return -math.inf if math.isnan(value) else value


@dataclass
class TokenSelectLayer:
    """Soft vote over the candidates; the last selection again while the query stays close to the one that made it."""

    initial: int
    top_k: int
    local: int
    threshold: float | None
    pool: int = 1
    cached: list[int] = field(default_factory=list)
    selected: list[int] = field(default_factory=list)
    query: list[float] | None = None
    reused: int = 0

    def step(self, now: int, query: Sequence[float], logits: Rows) -> list[int]:
        """Take in the query of all heads and their logits for each cached token; return the positions attended to."""
        self.cached.append(now)
        if len(self.cached) <= self.initial + self.top_k + self.local:
            return list(self.cached)
        middle = self.cached[self.initial : len(self.cached) - self.local]
        if (
            self.query is not None
            and self.threshold is not None
            and cosine(query, self.query) >= self.threshold
        ):
            self.reused += 1
        else:
            votes = self.soft_vote(middle, logits)
            self.selected = sorted(sorted(middle, key=lambda token: (-votes[token], token))[: self.top_k])
            self.query = list(query)
        edges = [*self.cached[: self.initial], *self.cached[len(self.cached) - self.local :]]
        return sorted({*edges, *self.selected})

    def soft_vote(self, middle: list[int], logits: Rows) -> dict[int, float]:
        """Sum over heads of the softmax over candidates, then the maximum over neighbours."""
        votes = dict.fromkeys(middle, 0.0)
        for head in range(len(logits[middle[0]])):
            row = [logits[token][head] for token in middle]
            top = max(row)
            total = sum(math.exp(logit - top) for logit in row)
            for token, logit in zip(middle, row, strict=True):
                votes[token] += math.exp(logit - top) / total
        reach = self.pool // 2
        return {
            token: max(votes[other] for other in middle[max(0, place - reach) : place + reach + 1])
            for place, token in enumerate(middle)
        }


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    """Cosine of two vectors."""
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))
