"""What a checkpoint's generation settings make of logits before a token is chosen.

Source:
    transformers 5, ``generation/logits_process.py``; the order is that of ``_get_logits_processor``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from saccade.proto.errors import EngineError
from saccade.proto.token_choice import TokenChoice


class TokenRules:
    """The rules of one answer; they remember what was said.

    Args:
        choice: What the checkpoint says.
        end_ids: Tokens that end an answer.
        question: Token ids of the question, with what the template puts around it.
        limit: Most tokens of the answer.
    """

    def __init__(
        self, choice: TokenChoice, end_ids: Sequence[int], question: Sequence[int], limit: int
    ) -> None:
        self._choice, self._ends, self._limit = choice, list(end_ids), limit
        self._said = [*choice.prompt, *question]
        self._answered = 0
        self._bans = [run for run in choice.banned if not (len(run) == 1 and run[0] in end_ids)]

    def add(self, token: int) -> None:
        """Remember the answer's next token."""
        self._said.append(token)
        self._answered += 1

    def apply(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logits that a token is chosen by.

        Args:
            logits: float32 ``(vocab_size,)``, finite.

        Returns:
            The same shape; tokens that may not come have minus infinity.

        Raises:
            EngineError: No token may come.
        """
        choice = self._choice
        scores = self._penalised(logits)
        scores[self._repeating()] = -np.inf
        scores[[run[-1] for run in self._bans if self._is_next(run)]] = -np.inf
        if self._answered < choice.min_new_tokens:
            scores[self._ends] = -np.inf
        if choice.forced_last and self._answered == self._limit - 1:
            scores[:] = -np.inf
            scores[list(choice.forced_last)] = 0.0
        scores[list(choice.suppressed)] = -np.inf
        if not self._answered:
            scores[list(choice.suppressed_first)] = -np.inf
        if not np.isfinite(scores).any():
            raise EngineError(
                "expected a token that may come next, found none: the generation settings of the checkpoint (answer: "
                "choice in the manifest) rule them all out."
            )
        return scores

    def _penalised(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        scores: NDArray[np.float32] = logits.copy()
        penalty = np.float32(self._choice.repetition_penalty)
        if penalty != 1:
            said = np.unique([token for token in self._said if token < len(scores)]).astype(np.int64)
            scores[said] = np.where(scores[said] < 0, scores[said] * penalty, scores[said] / penalty)
        return scores

    def _repeating(self) -> list[int]:
        """Tokens that would end a run that was said already."""
        length, said = self._choice.no_repeat_ngram, self._said
        if not length or len(said) + 1 < length:
            return []
        tail = said[len(said) - length + 1 :]
        starts = range(len(said) - length + 1)
        return [said[start + length - 1] for start in starts if said[start : start + length - 1] == tail]

    def _is_next(self, run: Sequence[int]) -> bool:
        """Whether all of a run but its last token was just said."""
        before = len(run) - 1
        return len(self._said) >= before and self._said[len(self._said) - before :] == list(run[:-1])
