"""How a bundle that answers in text goes from one token to the next."""

from __future__ import annotations

from dataclasses import dataclass

from saccade.proto.errors import ManifestError
from saccade.proto.picture_fit import PictureFit
from saccade.proto.token_choice import GREEDY, TokenChoice
from saccade.proto.video_spec import VideoSpec


@dataclass(frozen=True)
class AnswerSpec:
    """How a bundle generates the text of an answer.

    Args:
        vocab_size: Length of the logits: how many tokens there are to choose from.
        max_new_tokens: Most tokens of an answer: the room in the caches behind a prompt.
        first_position: Rotary position of the first token of the question; those that follow count up from it.
        end_ids: Ids of the tokens that end an answer.
        picture_fit: How pictures become what the graph takes.
        video: Which frames of a video are the views; None where questions are about still pictures.
        choice: How the checkpoint wants tokens chosen.
    """

    vocab_size: int
    max_new_tokens: int
    first_position: int
    end_ids: tuple[int, ...]
    picture_fit: PictureFit
    video: VideoSpec | None = None
    choice: TokenChoice = GREEDY

    def __post_init__(self) -> None:
        if self.vocab_size < 1 or self.max_new_tokens < 1 or self.first_position < 0:
            raise ManifestError(
                "answer: expected vocab_size and max_new_tokens >= 1 and first_position >= 0, found "
                f"{self.vocab_size}, {self.max_new_tokens} and {self.first_position}."
            )
        if not self.end_ids or not all(0 <= token < self.vocab_size for token in self.end_ids):
            raise ManifestError(
                f"answer: expected end_ids, each below {self.vocab_size}, found {list(self.end_ids)}."
            )
        if max((*self.choice.ids, 0)) >= self.vocab_size:
            raise ManifestError(
                f"answer: choice: expected token ids below {self.vocab_size}, found {max(self.choice.ids)}."
            )
