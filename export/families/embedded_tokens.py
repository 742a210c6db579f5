"""Which token ids a model has rows of its embedding table for, where its tokenizer has more.

A tokenizer may have *added tokens* past the table's end that no prompt needs: PaliGemma's ``<image>`` is 257152, one
past the last row of π0's table. They are found in a text only where it spells them out, so a model is good for every
other text. A word of the vocabulary itself that has no row means the tokenizer of another model.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from tokenizers import Tokenizer

from saccade.proto.errors import CheckpointError
from saccade.proto.instruction_spec import INSTRUCTION, STATE, InstructionSpec


def check_vocabulary(tokenizer: Tokenizer, rows: int, name: str) -> None:
    """Check that every token of a tokenizer has a row, added ones aside.

    Args:
        tokenizer: Tokenizer of the checkpoint.
        rows: Rows of the embedding table.
        name: Name of the tokenizer's file, for the message.

    Raises:
        CheckpointError: A token of the vocabulary has no row.
    """
    added = tokenizer.get_added_tokens_decoder()
    past = [index for index in tokenizer.get_vocab().values() if index >= rows and index not in added]
    if past:
        raise CheckpointError(
            f"{name}: expected token ids below {rows} (rows of the embedding table), found {max(past)}; use the "
            "tokenizer that the model was trained with."
        )


def within_embedding(spec: InstructionSpec, tokenizer: Tokenizer, rows: int) -> InstructionSpec:
    """Return how an instruction becomes tokens, with the table's end where the tokenizer has ids past it.

    Args:
        spec: How an instruction becomes tokens.
        tokenizer: Tokenizer of the checkpoint.
        rows: Rows of the embedding table.

    Raises:
        InstructionError: The template, or a token that is always there, has no row.
    """
    bounded = replace(spec, embedding_rows=rows)
    text = spec.after + spec.prompt(INSTRUCTION, STATE)
    ids = tokenizer.encode(text, add_special_tokens=False).ids[bool(spec.after) :]
    bounded.check_ids((spec.pad_id, *spec.before, *ids), tokenizer.id_to_token, spec.template)
    return bounded if texts_past(tokenizer, rows) else spec


def texts_past(tokenizer: Tokenizer, rows: int) -> tuple[str, ...]:
    """Return the texts of the tokens that have no row.

    Args:
        tokenizer: Tokenizer of the checkpoint.
        rows: Rows of the embedding table; 0 = every token has one.
    """
    return tuple(text for text, index in tokenizer.get_vocab().items() if 0 < rows <= index)


def spelling_none(words: Iterable[str], tokenizer: Tokenizer, rows: int) -> list[str]:
    """Return those words that spell no token that has no row.

    Args:
        words: Words to choose from.
        tokenizer: Tokenizer of the checkpoint.
        rows: Rows of the embedding table; 0 = every token has one.
    """
    past = texts_past(tokenizer, rows)
    return [word for word in words if not any(text in word for text in past)]
