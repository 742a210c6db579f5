"""How a checkpoint wants the tokens of its answers chosen: what its ``generation_config.json`` says, as data."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from saccade.proto.errors import ManifestError


@dataclass(frozen=True, kw_only=True)
class TokenChoice:
    """What changes logits before a token is chosen, and how one is drawn where a question does not say.

    All of it means what it means in transformers' ``generate``.

    Args:
        temperature: Logits are divided by it; 0 = greedy.
        top_k: Draw from this many of the likeliest tokens; 0 = from all.
        top_p: Draw from the fewest tokens whose probabilities sum to this, in 0..1.
        repetition_penalty: Logits of tokens that prompt or answer have are divided by it where they are above 0, and
            multiplied where they are below; 1 = none.
        no_repeat_ngram: No run of this many tokens comes twice, the prompt counted; 0 = any may.
        banned: Runs of tokens that never come.
        suppressed: Tokens that never come.
        suppressed_first: Tokens that an answer does not begin with.
        min_new_tokens: An answer does not end before it has this many tokens.
        forced_last: Tokens of which one ends an answer that has no more room; empty = it just ends.
        prompt: Token ids in front of the question, the places of pictures included, where a penalty or a ban counts
            them; each once where their order does not count. Empty = nothing counts them.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    no_repeat_ngram: int = 0
    banned: tuple[tuple[int, ...], ...] = ()
    suppressed: tuple[int, ...] = ()
    suppressed_first: tuple[int, ...] = ()
    min_new_tokens: int = 0
    forced_last: tuple[int, ...] = ()
    prompt: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        numbers = (self.temperature, self.top_p, self.repetition_penalty)
        if not (
            all(map(isfinite, numbers))
            and self.temperature >= 0
            and 0 < self.top_p <= 1
            and self.repetition_penalty > 0
            and min(self.top_k, self.no_repeat_ngram, self.min_new_tokens) >= 0
            and all(self.banned)
            and min(self.ids, default=0) >= 0
        ):
            raise ManifestError(
                "choice: expected temperature, top_k, no_repeat_ngram, min_new_tokens and token ids of 0 or more, "
                f"top_p above 0 and at most 1, a repetition_penalty above 0 and no empty ban, found {self!r:.300}."
            )

    @property
    def ids(self) -> tuple[int, ...]:
        """Every token id that is named, those of the prompt apart."""
        runs = (*self.banned, self.suppressed, self.suppressed_first, self.forced_last)
        return tuple(token for run in runs for token in run)


GREEDY = TokenChoice()
"""The likeliest token every time, and no rules."""
