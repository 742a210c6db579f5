"""How an instruction becomes the tokens that a graph reads: data, so that the host writes prompts as in training."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from saccade.proto.errors import InstructionError, ManifestError

INSTRUCTION, STATE = "{instruction}", "{state}"
"""Marks that a template has for the instruction, and for the robot's state as text."""

_NO_TEXT = re.compile("[\\0\\ud800-\\udfff]")


class TextStep(str, Enum):
    """What is done to an instruction before it goes into the template."""

    LOWER_CASE = "lower_case"
    """Upper case becomes lower case."""
    SPACES_FOR_UNDERSCORES = "spaces_for_underscores"
    """Underscores become spaces."""
    ONE_LINE = "one_line"
    """Line breaks become spaces."""


@dataclass(frozen=True)
class InstructionSpec:
    """How an instruction becomes tokens.

    Args:
        tokenizer: Path of the tokenizer file (Hugging Face ``tokenizer.json``).
        template: Text of the prompt, with ``{instruction}`` once, and ``{state}`` once where there are ``state_bins``.
        max_tokens: Length of the padded row of tokens; the ``text`` segment has as many.
        pad_id: Id of the token that fills the rest, on the right.
        before: Ids of the tokens in front of the text, e.g. of BOS.
        steps: What is done to the instruction, in order; white space around it goes first.
        state_bins: How many bins of equal width over -1..1 tell the state: each number of normalised proprioception is
            in the prompt as the number of its bin, in every control step anew. 0 = the prompt tells no state.
        after: Text of the one token that the template follows, where tokens depend on it; it is not part of the row.
        embedding_rows: Rows of the embedding table, where the tokenizer has token ids past its end: a text with such a
            token is refused. 0 = every id of the tokenizer has a row.
    """

    tokenizer: str
    template: str
    max_tokens: int
    pad_id: int
    before: tuple[int, ...] = ()
    steps: tuple[TextStep, ...] = ()
    state_bins: int = 0
    after: str = ""
    embedding_rows: int = 0

    def __post_init__(self) -> None:
        for text in (self.template, self.after):
            if (found := _no_unicode(text)) is not None:
                raise ManifestError(f"template: expected Unicode text, found {found} in {text!r}.")
        for mark in (INSTRUCTION, STATE) if self.state_bins else (INSTRUCTION,):
            if self.template.count(mark) != 1:
                raise ManifestError(f"template: expected '{mark}' exactly once, found {self.template!r}.")
        if self.max_tokens < 1 or min(self.pad_id, self.state_bins, self.embedding_rows, *self.before) < 0:
            raise ManifestError(
                f"expected max_tokens >= 1, pad_id, state_bins, embedding_rows and token ids >= 0, found "
                f"{self.max_tokens}, {self.pad_id}, {self.state_bins}, {self.embedding_rows} and {list(self.before)}."
            )

    def parts(self, instruction: str, state: str = "") -> tuple[str, str, str]:
        """Return the text before an instruction, the instruction as the prompt has it, and the text behind it.

        Args:
            instruction: What to do, as it was given.
            state: The robot's state as text, see :func:`saccade.proto.state_text.state_text`; empty where the template
                tells none.

        Raises:
            InstructionError: The instruction is no Unicode text.
        """
        check_unicode(instruction)
        text = instruction.strip()
        for step in self.steps:
            text = _STEPS[step](text)
        # At once: an instruction may have the other mark in it.
        head, tail = self.template.split(INSTRUCTION)
        if self.state_bins:
            head, tail = head.replace(STATE, state), tail.replace(STATE, state)
        return head, text, tail

    def prompt(self, instruction: str, state: str = "") -> str:
        """Return the text whose tokens follow :attr:`before`.

        Args:
            instruction: What to do, as it was given.
            state: The robot's state as text; empty where the template tells none.

        Raises:
            InstructionError: The instruction is no Unicode text.
        """
        return "".join(self.parts(instruction, state))

    def check_ids(self, ids: Iterable[int], text_of: Callable[[int], str | None], prompt: str) -> None:
        """Refuse a prompt with a token that the embedding table has no row for.

        Args:
            ids: Token ids of the prompt.
            text_of: Turns a token id into the token's text.
            prompt: The prompt, for the message.

        Raises:
            InstructionError: A token id is past the end of the table.
        """
        for index in ids:
            if 0 < self.embedding_rows <= index:
                raise InstructionError(
                    f"expected text of tokens that the model has (ids below {self.embedding_rows}), found "
                    f"{text_of(index)!r}, token {index}, in {prompt!r}; leave it out, or say it in other words."
                )


def check_unicode(text: str) -> None:
    """Refuse an instruction or a question that is no Unicode text, before anything encodes it.

    Args:
        text: What a person or a program gave.

    Raises:
        InstructionError: It is no text; or half of a surrogate pair is in it, as bytes leave that were not UTF-8, or a
            NUL.
    """
    if not isinstance(text, str):
        raise InstructionError(f"expected an instruction or a question in text, found {type(text).__name__}.")
    if (found := _no_unicode(text)) is not None:
        raise InstructionError(
            f"expected an instruction or a question in Unicode text, found {found}: decode it as what it is encoded "
            "in, UTF-8 for instance, and leave such characters out."
        )


def _no_unicode(text: str) -> str | None:
    """Describe the first character that no text has; None where all are well."""
    found = _NO_TEXT.search(text)
    if found is None:
        return None
    what = "a NUL" if found[0] == "\0" else f"half of a surrogate pair ({found[0]!a})"
    return f"{what} as character {found.start()}"


_STEPS: Mapping[TextStep, Callable[[str], str]] = {
    TextStep.LOWER_CASE: str.lower,
    TextStep.SPACES_FOR_UNDERSCORES: lambda text: text.replace("_", " "),
    TextStep.ONE_LINE: lambda text: text.replace("\n", " "),
}
