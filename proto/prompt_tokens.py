"""The tokens of a prompt, the same at export and on the robot; alone in this folder it needs ``tokenizers``.

The template's special tokens are control; those that somebody types into an instruction are text. A tokenizer cannot
be told so for a part of its input: it finds special tokens in the raw text, first of all. So one character of each that
was typed is replaced by one that means nothing, until they are sought no more, and put back before the text is split.
Everything else, where two parts meet included, is as the tokenizer does it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from tokenizers import Encoding, NormalizedString, PreTokenizedString, Tokenizer
from tokenizers.models import Unigram
from tokenizers.pre_tokenizers import PreTokenizer, Sequence

from saccade.proto.errors import InstructionError, SaccadeError
from saccade.proto.instruction_spec import InstructionSpec

_WORD = re.compile(r"[^\W_]+")
_PRIVATE_USE = range(0xF0000, 0xFFFFE)


class PromptTokens(NamedTuple):
    """The tokens of one prompt.

    Args:
        ids: Token ids, those before the text included, without padding.
        unknown: Parts of the instruction that became the tokenizer's one token for whatever it does not know.
        has_known: Whether any word of the instruction has a token of its own; marks and spaces are no words.
    """

    ids: list[int]
    unknown: tuple[str, ...]
    has_known: bool


class PromptTokenizer:
    """Turns instructions into the tokens of a bundle's prompt. Not safe to share between threads.

    Args:
        tokenizer: Tokenizer of the checkpoint; its padding and truncation are switched off.
        spec: Template of the prompt, and what stands before it.
    """

    def __init__(self, tokenizer: Tokenizer, spec: InstructionSpec) -> None:
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer
        self._spec = spec
        self._unknown = _unknown_id(tokenizer)
        framing = {*spec.before, spec.pad_id, tokenizer.token_to_id(spec.after)}
        self._control = {
            index: self._normalised(token.content)
            for index, token in tokenizer.get_added_tokens_decoder().items()
            if token.special or (index in framing and token.content.strip())
        }

    def ids(self, instruction: str, state: str = "") -> list[int]:
        """Return the ids of :meth:`encode`; arguments and errors are the same."""
        return self.encode(instruction, state).ids

    def encode(self, instruction: str, state: str = "") -> PromptTokens:
        """Return the tokens of a prompt.

        Args:
            instruction: What to do, or a question; special tokens in it are text.
            state: The robot's state as text, where the prompt tells it; else empty.

        Raises:
            InstructionError: The instruction is no Unicode text, the tokenizer cannot split it, or a token is past the
                end of the embedding table.
        """
        spec = self._spec
        head, text, tail = spec.parts(instruction, state)
        start = len(spec.after + head)
        prompt, typed = spec.after + head + text + tail, range(start, start + len(text))
        encoding = self._with_typed_as_text(prompt, typed)
        found = [*spec.before, *encoding.ids[bool(spec.after) :]]
        spec.check_ids(found, self._tokenizer.id_to_token, head + text + tail)
        return PromptTokens(found, *self._told_apart(encoding, prompt, typed))

    def _told_apart(self, encoding: Encoding, prompt: str, typed: range) -> tuple[tuple[str, ...], bool]:
        """Return the typed parts that the tokenizer does not know, and whether it knows a word beside them."""
        unknown, has_known = [], False
        left = list(
            prompt[: typed.stop]
        )  # what no token stands for: some tokenizers leave out what they do not know
        left[: typed.start] = " " * typed.start
        for token, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
            part = prompt[max(start, typed.start) : min(end, typed.stop)].strip()
            if token == self._unknown and part:
                unknown.append(part)
            elif token != self._unknown:
                has_known |= any(character.isalnum() for character in part)
            left[start : min(end, typed.stop)] = " " * (min(end, typed.stop) - start)
        return (*unknown, *_WORD.findall("".join(left))), has_known

    def _with_typed_as_text(self, prompt: str, typed: range) -> Encoding:
        """Return the tokens of a prompt, no control token among those of its ``typed`` characters."""
        hidden: dict[int, bool] = {}  # places of characters, and whether each is a word of its own
        while True:
            encoding = self._encode(prompt, hidden)
            # A word of one character has no other spelling: that is text too.
            places = [
                place for place in self._control_places(encoding, prompt, typed) if not hidden.get(place)
            ]
            if not places:
                return encoding
            for place in places:
                hidden[place] = place in hidden

    def _control_places(self, encoding: Encoding, prompt: str, typed: range) -> list[int]:
        """Return the first typed character of each control token; words that are merely unknown are none."""
        places = []
        for token, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
            inside = range(max(start, typed.start), min(end, typed.stop))
            if (
                token in self._control
                and inside
                and self._normalised(prompt[start:end]) == self._control[token]
            ):
                places += [place for place in inside if not prompt[place].isspace()][:1]
        return places

    def _encode(self, prompt: str, hidden: Mapping[int, bool]) -> Encoding:
        tokenizer = self._tokenizer
        with tokenizers_errors_as(InstructionError, "text that the tokenizer can split"):
            if not hidden:
                return tokenizer.encode(prompt, add_special_tokens=False)
            spare = (chr(code) for code in _PRIVATE_USE if chr(code) not in prompt)
            kinds = sorted({(prompt[place], is_alone) for place, is_alone in hidden.items()})
            marks = dict(zip(kinds, spare, strict=False))
            characters = list(prompt)
            for place, is_alone in hidden.items():
                characters[place] = marks[prompt[place], is_alone]
            own = tokenizer.pre_tokenizer
            restore = PreTokenizer.custom(_Restore(marks))
            tokenizer.pre_tokenizer = restore if own is None else Sequence([restore, own])
            try:
                return tokenizer.encode("".join(characters), add_special_tokens=False)
            finally:
                tokenizer.pre_tokenizer = own

    def _normalised(self, text: str) -> str:
        normalizer = self._tokenizer.normalizer
        return (text if normalizer is None else normalizer.normalize_str(text.strip())).strip().casefold()


class _Restore:
    """Puts hidden characters back, as the first step of splitting a text.

    Args:
        marks: What stands for a character, by the character and whether it becomes a word of its own.
    """

    def __init__(self, marks: Mapping[tuple[str, bool], str]) -> None:
        self._marks = marks

    def pre_tokenize(self, text: PreTokenizedString) -> None:
        """Called by the tokenizer, with the parts between special tokens."""
        for (character, is_alone), mark in self._marks.items():

            def split(_: int, part: NormalizedString, mark: str = mark) -> list[NormalizedString]:
                return part.split(mark, "isolated")

            def replace(part: NormalizedString, mark: str = mark, character: str = character) -> None:
                part.replace(mark, character)

            if is_alone:
                text.split(split)
            text.normalize(replace)


def _unknown_id(tokenizer: Tokenizer) -> int | None:
    """Return the id of the token for whatever a tokenizer does not know; None = it knows everything."""
    model = tokenizer.model
    if isinstance(model, Unigram):  # it alone does not tell
        index: int | None = json.loads(tokenizer.to_str())["model"].get("unk_id")
        return index
    word: str | None = model.unk_token
    return None if word is None else tokenizer.token_to_id(word)


@contextmanager
def tokenizers_errors_as(kind: type[SaccadeError], expected: str) -> Iterator[None]:
    """Turn whatever the library raises into one of our errors; a panic of its Rust code is not even an Exception.

    Args:
        kind: Type of the error that is raised instead.
        expected: What was expected, for the message.
    """
    try:
        yield
    except (SaccadeError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        raise kind(f"expected {expected}, found: {error}.") from error
