"""Instruction to tokens, mask and positions: computed once, or in each step where the prompt tells the state.

The only file that imports ``tokenizers``.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from saccade.proto.errors import BundleError, InstructionError
from saccade.proto.instruction_spec import InstructionSpec
from saccade.proto.manifest import SegmentSpec

TEXT_SEGMENT = "text"


@dataclass(frozen=True)
class TokenizedInstruction:
    """What the graphs need to know of an instruction.

    Args:
        token_ids: int64 ``(1, max_tokens)``, padded on the right.
        attention_mask: bool ``(1, positions)`` over the whole sequence, True = valid.
        position_ids: int64 ``(1, positions)``: running count of valid positions, 0 at padding.
        count: How many tokens are no padding.
    """

    token_ids: NDArray[np.int64]
    attention_mask: NDArray[np.bool_]
    position_ids: NDArray[np.int64]
    count: int


class InstructionTokens:
    """Tokenises instructions and remembers the recent ones.

    Args:
        tokenizer: Path of a ``tokenizer.json``.
        spec: Template of the prompt, room for its tokens, and padding.
        sequence: Segments of the decoder's sequence, in order.
        capacity: How many instructions are remembered.

    Raises:
        BundleError: The tokenizer file cannot be read.
    """

    def __init__(
        self, tokenizer: Path, spec: InstructionSpec, sequence: tuple[SegmentSpec, ...], *, capacity: int = 64
    ) -> None:
        try:
            self._tokenizer = Tokenizer.from_file(str(tokenizer))
        except Exception as error:
            raise BundleError(f"{tokenizer.name}: expected a tokenizer file, found: {error}.") from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._spec = spec
        self._sequence = sequence
        self._capacity = capacity
        self._cache: OrderedDict[str, TokenizedInstruction] = OrderedDict()

    def detokenizer(self) -> Detokenizer:
        """Return what turns the tokens of one answer into text."""
        return Detokenizer(self._tokenizer)

    def encode(self, instruction: str, state: str = "") -> TokenizedInstruction:
        """Return tokens, mask and positions of ``instruction``; cached, unless the prompt tells a state.

        Args:
            instruction: What to do, or a question.
            state: The robot's state as text, where the prompt tells it; else empty.

        Raises:
            InstructionError: The instruction is empty, has more tokens than the graphs have room for, or a token that
                the model does not have.
        """
        if not instruction.strip():
            raise InstructionError(
                "expected an instruction such as 'push the red cube', or a question, found nothing."
            )
        text = self._spec.prompt(instruction, state)
        if state:
            return self._encode(text)
        if text not in self._cache:
            self._cache[text] = self._encode(text)
            if len(self._cache) > self._capacity:
                self._cache.popitem(last=False)
        self._cache.move_to_end(text)
        return self._cache[text]

    def _encode(self, prompt: str) -> TokenizedInstruction:
        text_ids = self._tokenizer.encode(self._spec.after + prompt, add_special_tokens=False).ids
        ids = [*self._spec.before, *text_ids[bool(self._spec.after) :]]
        room = self._spec.max_tokens
        if not 1 <= len(ids) <= room:
            raise InstructionError(
                f"expected a prompt of 1 to {room} tokens, its template included, found {len(ids)}: "
                "say it in fewer words."
            )
        self._spec.check_ids(ids, self._tokenizer.id_to_token, prompt)
        token_ids = np.full((1, room), self._spec.pad_id, np.int64)
        token_ids[0, : len(ids)] = ids
        mask = np.concatenate([_valid(segment, len(ids)) for segment in self._sequence])[None]
        position_ids = np.where(mask, np.cumsum(mask, axis=1) - 1, 0).astype(np.int64)
        return TokenizedInstruction(token_ids, mask, position_ids, len(ids))


class Detokenizer:
    """Turns the tokens of one answer into text, as they come.

    Args:
        tokenizer: Tokenizer of the bundle.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._stream = DecodeStream(skip_special_tokens=True)

    def add(self, token: int) -> str:
        """Return the text that is certain now: empty while a character is still open.

        Args:
            token: Id of the answer's next token.
        """
        return self._stream.step(self._tokenizer, token) or ""


def _valid(segment: SegmentSpec, text_tokens: int) -> NDArray[np.bool_]:
    return np.arange(segment.tokens) < (text_tokens if segment.name == TEXT_SEGMENT else segment.tokens)
