"""Instruction to tokens, mask and positions, once or in each step where the prompt tells the state; answers to text."""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from saccade.proto.errors import BundleError, EngineError, InstructionError
from saccade.proto.instruction_spec import InstructionSpec
from saccade.proto.manifest import SegmentSpec
from saccade.proto.prompt_tokens import PromptTokenizer, tokenizers_errors_as

TEXT_SEGMENT = "text"
_OPEN = "\N{REPLACEMENT CHARACTER}"
"""What a decoder writes for bytes that are no character, or none yet."""
_BYTE = re.compile(r"<0x..>")
"""A token that spells one byte."""


@dataclass(frozen=True)
class TokenizedInstruction:
    """What the graphs need to know of an instruction.

    Args:
        token_ids: int64 ``(1, max_tokens)``, padded on the right.
        attention_mask: bool ``(1, positions)`` over the whole sequence, True = valid.
        position_ids: int64 ``(1, positions)``: running count of valid positions, 0 at padding.
        count: How many tokens are no padding.
        unknown: Parts of the instruction that the tokenizer has no token for.
        has_known: Whether any of its words has a token of its own.
    """

    token_ids: NDArray[np.int64]
    attention_mask: NDArray[np.bool_]
    position_ids: NDArray[np.int64]
    count: int
    unknown: tuple[str, ...]
    has_known: bool

    def check_known(self, instruction: str) -> None:
        """Refuse an instruction that says nothing to the model.

        Args:
            instruction: The instruction, for the message.

        Raises:
            InstructionError: Words are in it, and the tokenizer knows none of them.
        """
        if self.unknown and not self.has_known:
            raise InstructionError(
                f"expected an instruction with words that the model's tokenizer knows, found {instruction!r}, of "
                "which it knows none: say it in the language and the words that the model was trained on."
            )


class InstructionTokens:
    """Tokenises instructions and remembers the recent ones.

    Args:
        tokenizer: Content of the tokenizer file, a ``tokenizer.json``.
        spec: Template of the prompt, room for its tokens, and padding.
        sequence: Segments of the decoder's sequence, in order.
        capacity: How many instructions are remembered.

    Raises:
        BundleError: The tokenizer file cannot be read.
    """

    def __init__(
        self,
        tokenizer: bytes,
        spec: InstructionSpec,
        sequence: tuple[SegmentSpec, ...],
        *,
        capacity: int = 64,
    ) -> None:
        try:
            with tokenizers_errors_as(BundleError, "a tokenizer file"):
                self._tokenizer = Tokenizer.from_str(tokenizer.decode())
        except BundleError as error:
            raise BundleError(f"{spec.tokenizer}: {error.message}") from error
        self._prompts = PromptTokenizer(self._tokenizer, spec)
        self._spec = spec
        self._sequence = sequence
        self._capacity = capacity
        self._cache: OrderedDict[str, TokenizedInstruction] = OrderedDict()

    def detokenizer(self) -> Detokenizer:
        """Return what turns the tokens of one answer into text."""
        return Detokenizer(self._tokenizer)

    def spelling(self, word: str) -> tuple[int, ...]:
        """Return the ids of all tokens that are this one word, whatever their case and the spaces around them.

        Args:
            word: Word in lower case.
        """
        likely = {
            piece: index for piece, index in self._tokenizer.get_vocab().items() if word in piece.lower()
        }
        with tokenizers_errors_as(BundleError, "tokens that the tokenizer can decode"):
            return tuple(
                sorted(
                    index
                    for index in likely.values()
                    if self._tokenizer.decode([index]).strip().lower() == word
                )
            )

    def encode(self, instruction: str, state: str = "") -> TokenizedInstruction:
        """Return tokens, mask and positions of ``instruction``; cached, unless the prompt tells a state.

        Args:
            instruction: What to do, or a question.
            state: The robot's state as text, where the prompt tells it; else empty.

        Raises:
            InstructionError: The instruction is empty, is no Unicode text, has more tokens than the graphs have room
                for, or a token that the model lacks.
        """
        if not instruction.strip():
            raise InstructionError(
                "expected an instruction such as 'push the red cube', or a question, found nothing."
            )
        if state:
            return self._encode(instruction, state)
        text = self._spec.prompt(instruction)
        if text not in self._cache:
            self._cache[text] = self._encode(instruction)
            if len(self._cache) > self._capacity:
                self._cache.popitem(last=False)
        self._cache.move_to_end(text)
        return self._cache[text]

    def _encode(self, instruction: str, state: str = "") -> TokenizedInstruction:
        prompt = self._prompts.encode(instruction, state)
        ids = prompt.ids
        room = self._spec.max_tokens
        if not 1 <= len(ids) <= room:
            raise InstructionError(
                f"expected a prompt of 1 to {room} tokens, its template included, found {len(ids)}: "
                "say it in fewer words."
            )
        token_ids = np.full((1, room), self._spec.pad_id, np.int64)
        token_ids[0, : len(ids)] = ids
        mask = np.concatenate([_valid(segment, len(ids)) for segment in self._sequence])[None]
        position_ids = np.where(mask, np.cumsum(mask, axis=1) - 1, 0).astype(np.int64)
        return TokenizedInstruction(token_ids, mask, position_ids, len(ids), prompt.unknown, prompt.has_known)


class Detokenizer:
    """Turns the tokens of one answer into text, as they come: all pieces together are what the tokenizer decodes.

    What a later token may still change is held back: a character whose bytes have not all come, and a run of tokens
    that spell bytes, of which the tokenizer writes none as a character unless all of them together are text.

    Args:
        tokenizer: Tokenizer of the bundle.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        added = tokenizer.get_added_tokens_decoder().values()
        self._silent = {token.content for token in added if token.special}
        self._window: list[int] = []  # what is not said yet, behind enough of what is to have the same text
        self._said = 0  # characters of the window's text

    def add(self, token: int) -> str:
        """Return the text that is certain now: empty while a character is still open.

        Args:
            token: Id of the answer's next token.

        Raises:
            EngineError: The tokenizer failed.
        """
        piece = self._tokenizer.id_to_token(token)
        if piece is None or piece in self._silent:  # as if it had never come
            return ""
        self._window.append(token)
        if _BYTE.fullmatch(piece):
            return ""
        text = self._decode(self._window)
        certain = text[self._said :].rstrip(_OPEN)
        self._said += len(certain)
        if self._said == len(text):
            self._forget()
        return certain

    def finish(self) -> str:
        """Return the text that was held back, because the answer ends here.

        Raises:
            EngineError: The tokenizer failed.
        """
        rest = self._decode(self._window)[self._said :]
        self._window, self._said = [], 0
        return rest

    def _forget(self) -> None:
        """Shorten the window, all of which is said, to the last tokens that have a text.

        Some tokenizers write the first token of a text otherwise than later ones; one that was said stays the first.
        """
        for start in reversed(range(len(self._window))):
            if text := self._decode(self._window[start:]):
                self._window, self._said = self._window[start:], len(text)
                return

    def _decode(self, tokens: list[int]) -> str:
        with tokenizers_errors_as(EngineError, "tokens that the tokenizer can decode"):
            return self._tokenizer.decode(tokens, skip_special_tokens=True)


def _valid(segment: SegmentSpec, text_tokens: int) -> NDArray[np.bool_]:
    return np.arange(segment.tokens) < (text_tokens if segment.name == TEXT_SEGMENT else segment.tokens)
