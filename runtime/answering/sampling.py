"""Which token comes next: the likeliest one, or a seeded draw from the likeliest few."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saccade.proto.errors import QuestionError
from saccade.proto.token_choice import TokenChoice


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How each token of an answer is chosen.

    Args:
        temperature: Logits are divided by it; 0 = greedy, the likeliest token every time.
        top_k: Draw from this many of the likeliest tokens; 0 = from all.
        top_p: Draw from the fewest tokens whose probabilities sum to this, in 0..1.
        seed: Seed of the random draws, not negative.

    Raises:
        QuestionError: A value is out of range.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    @classmethod
    def of(
        cls,
        choice: TokenChoice,
        *,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
    ) -> Sampling:
        """Return what a checkpoint says, with what is given in its place."""
        return cls(
            temperature=choice.temperature if temperature is None else temperature,
            top_k=choice.top_k if top_k is None else top_k,
            top_p=choice.top_p if top_p is None else top_p,
            seed=seed,
        )

    def __post_init__(self) -> None:
        if not (
            math.isfinite(self.temperature)
            and self.temperature >= 0
            and self.top_k >= 0
            and 0 < self.top_p <= 1
            and self.seed >= 0
        ):
            raise QuestionError(
                "expected a temperature, top_k and seed of 0 or more and top_p above 0 and at most 1, found "
                f"{self.temperature}, {self.top_k}, {self.seed} and {self.top_p}."
            )


class Sampler:
    """Draws the tokens of one answer.

    Args:
        sampling: How each token is chosen.
    """

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._random = np.random.default_rng(sampling.seed)

    def choose(self, logits: NDArray[np.float32]) -> int:
        """Return the id of the next token.

        Args:
            logits: float32 ``(vocab_size,)``; minus infinity where a token may not come, which not all may have.
        """
        if self._sampling.temperature == 0:
            return int(logits.argmax())
        order, weights = self.odds(logits)
        return int(self._random.choice(order, p=weights))

    def odds(self, logits: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the tokens that may be drawn, likeliest first, int64 ``(n,)``, and their probabilities, ``(n,)``.

        Args:
            logits: As :meth:`choose` takes them; the temperature is above 0.
        """
        sampling = self._sampling
        order = np.argsort(-logits, kind="stable")[: sampling.top_k or len(logits)]
        scaled = (logits[order].astype(np.float64) - float(logits[order[0]])) / sampling.temperature
        weights = np.exp(scaled)
        weights /= weights.sum()
        # The fewest tokens that reach top_p: those before which less than top_p lies.
        weights = np.where(np.cumsum(weights) - weights < sampling.top_p, weights, 0.0)
        return order, weights / weights.sum()
