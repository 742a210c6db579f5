"""Instructions become tokens, and tokens become the text that the tokenizer itself decodes."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from saccade.proto.errors import BundleError, EngineError, InstructionError
from saccade.proto.instruction_spec import InstructionSpec
from saccade.proto.manifest import SegmentSpec
from saccade.runtime.tokens import Detokenizer, InstructionTokens
from tests.published_tokenizers import PUBLISHED, id_of

MARKED = re.compile("<0x|▁|Ġ|.$")
"""Tokens for which an answer's pieces differ from the tokens' own texts: bytes, spaces, single characters."""
SEQUENCE = (SegmentSpec("bos", 1), SegmentSpec("visual", 2), SegmentSpec("text", 4), SegmentSpec("action", 2))
SPEC = InstructionSpec("tokenizer.json", "the {instruction}", 4, 0)


def test_padding_is_masked_and_positions_run_over_the_valid(tiny: Path) -> None:
    encoded = InstructionTokens((tiny / "tokenizer.json").read_bytes(), SPEC, SEQUENCE).encode("Red cube")
    assert encoded.token_ids.tolist() == [[3, 4, 6, 0]]
    assert encoded.attention_mask.tolist() == [[True] * 6 + [False] + [True] * 2]
    assert encoded.position_ids.tolist() == [[0, 1, 2, 3, 4, 5, 0, 6, 7]]
    assert (encoded.token_ids.dtype, encoded.position_ids.dtype) == (np.int64, np.int64)


def test_an_instruction_is_encoded_once_and_the_oldest_forgotten(tiny: Path) -> None:
    tokens = InstructionTokens((tiny / "tokenizer.json").read_bytes(), SPEC, SEQUENCE, capacity=2)
    red, blue = tokens.encode("red"), tokens.encode("blue")
    assert tokens.encode(" red ") is red
    tokens.encode("cube")
    assert tokens.encode("red") is red
    assert tokens.encode("blue") is not blue


def test_braces_in_an_instruction_are_text(tiny: Path) -> None:
    tokens = InstructionTokens(
        (tiny / "tokenizer.json").read_bytes(),
        InstructionSpec("t", "{instruction}", 9, 0),
        (SEQUENCE[0], SegmentSpec("text", 9)),
    )
    assert tokens.encode("red {instruction} {0}").token_ids.any()


def test_the_template_counts_too(tiny: Path) -> None:
    tokens = InstructionTokens((tiny / "tokenizer.json").read_bytes(), SPEC, SEQUENCE)
    with pytest.raises(InstructionError, match="1 to 4 tokens, its template included, found 5"):
        tokens.encode("push the red cube")


def _speaking(model: models.Model, folder: Path, spec: InstructionSpec) -> InstructionTokens:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    content = (folder / "tokenizer.json").read_bytes()
    return InstructionTokens(content, spec, (SegmentSpec("text", spec.max_tokens),))


_KNOWN = ("in", ":", "push", "the", "cube", "out", "!")


@pytest.mark.parametrize(
    "model",
    [
        models.WordLevel({"<unk>": 0, **{word: 1 + index for index, word in enumerate(_KNOWN)}}, "<unk>"),
        models.WordPiece(
            {"<unk>": 0, **{word: 1 + index for index, word in enumerate(_KNOWN)}},
            unk_token="<unk>",  # noqa: S106
        ),
        models.Unigram([("<unk>", 0.0), *((word, -1.0) for word in _KNOWN)], unk_id=0),
        models.BPE(
            {letter: index for index, letter in enumerate("in:pushtecbo!")}, []
        ),  # leaves out what it lacks
    ],
    ids=["words", "pieces", "unigram", "silent"],
)
def test_unknown_words_are_told_and_nothing_else_is_refused(model: models.Model, tmp_path: Path) -> None:
    """The template's words are known, and save no instruction of none."""
    tokens = _speaking(model, tmp_path, InstructionSpec("t", "in: {instruction} out:", 24, 0))
    assert tokens.encode("push the cube").unknown == ()
    some = tokens.encode("push kwyj !")
    some.check_known("push kwyj !")
    assert some.unknown == ("kwyj",)
    for unknown in ("kwyj", "kwyj ! zzrk", "\N{CJK UNIFIED IDEOGRAPH-63A8}"):
        with pytest.raises(InstructionError, match=f"found {unknown!r}, of which it knows none"):
            tokens.encode(unknown).check_known(unknown)


@pytest.mark.parametrize("kind", PUBLISHED)
def test_published_tokenizers_know_plain_words(kind: str) -> None:
    spec = InstructionSpec("t", "In: What should the robot do to {instruction}?\nOut:", 200, 0)
    tokens = InstructionTokens(PUBLISHED[kind].to_str().encode(), spec, (SegmentSpec("text", 200),))
    for text in ("push the red cube", "Lege den W\u00fcrfel ab!", "</s> then 3 \u65e5", "\U0001f916"):
        assert tokens.encode(text).unknown == (), text


def test_a_token_that_the_model_has_no_row_for_is_named(tiny: Path) -> None:
    few = InstructionTokens((tiny / "tokenizer.json").read_bytes(), replace(SPEC, embedding_rows=6), SEQUENCE)
    assert few.encode("red").token_ids.tolist() == [[3, 4, 0, 0]]
    for state in ("", "7"):
        with pytest.raises(
            InstructionError, match=r"ids below 6\), found 'cube', token 6, in 'the red cube'; leave it out"
        ):
            few.encode("red cube", state)
    every = InstructionTokens(
        (tiny / "tokenizer.json").read_bytes(), replace(SPEC, embedding_rows=7), SEQUENCE
    )
    assert every.encode("red cube").count == 3


@pytest.mark.parametrize("content", [b"{}", b"\xff{}", b""])
def test_a_file_that_is_no_tokenizer_is_refused(content: bytes) -> None:
    with pytest.raises(BundleError, match=r"tokenizer\.json: expected a tokenizer file"):
        InstructionTokens(content, SPEC, SEQUENCE)


def check_pieces(tokenizer: Tokenizer, ids: list[int]) -> None:
    """Compare an answer that comes in pieces with the same tokens decoded at once."""
    detokenizer = Detokenizer(tokenizer)
    pieces = [detokenizer.add(token) for token in ids]
    assert not [piece for piece in pieces if piece.endswith("\N{REPLACEMENT CHARACTER}")]
    assert "".join(pieces) + detokenizer.finish() == tokenizer.decode(ids)


def test_bytes_that_are_no_character() -> None:
    tokenizer = PUBLISHED["llama"]
    detokenizer = Detokenizer(tokenizer)
    pieces = [detokenizer.add(id_of(tokenizer, piece)) for piece in ("e", "<0x6F>", "<0xC3>", "b")]
    assert pieces == ["e", "", "", "\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}b"]


def test_a_character_comes_when_it_is_whole() -> None:
    """Special tokens and ids that the tokenizer does not know, as of a padded vocabulary, are as if they never came."""
    tokenizer = PUBLISHED["llama"]
    detokenizer = Detokenizer(tokenizer)
    spelled = [id_of(tokenizer, piece) for piece in ("▁the", "<0xC3>", "<s>", "<0xA9>")]
    assert [detokenizer.add(token) for token in (*spelled, 99_999)] == ["the", "", "", "", ""]
    assert (detokenizer.finish(), detokenizer.finish()) == ("é", "")


@pytest.mark.parametrize("name", PUBLISHED)
def test_ten_tokens_of_any_kind(name: str) -> None:
    tokenizer = PUBLISHED[name]
    for seed in range(300):
        drawn = np.random.default_rng(seed).integers(0, tokenizer.get_vocab_size() + 3, 10)
        check_pieces(tokenizer, drawn.tolist())


@given(st.data())
def test_pieces_are_what_the_tokenizer_decodes(data: st.DataObject) -> None:
    tokenizer = PUBLISHED[data.draw(st.sampled_from(sorted(PUBLISHED)))]
    size = tokenizer.get_vocab_size()
    marked = [token for token in range(size) if MARKED.match(tokenizer.id_to_token(token) or "")]
    token = st.one_of(st.integers(0, size + 3), st.sampled_from(marked))
    check_pieces(tokenizer, data.draw(st.lists(token, max_size=40)))


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_a_token_costs_does_not_grow_with_the_answer(name: str) -> None:
    decoded: list[int] = []

    class Counting:
        """The tokenizer, which notes how many tokens it is asked to decode."""

        def __getattr__(self, attribute: str) -> Any:
            return getattr(PUBLISHED[name], attribute)

        def decode(self, ids: list[int], **options: Any) -> str:
            decoded.append(len(ids))
            return PUBLISHED[name].decode(ids, **options)

    ids = np.random.default_rng(0).integers(0, PUBLISHED[name].get_vocab_size(), 5000).tolist()
    detokenizer = Detokenizer(cast(Tokenizer, Counting()))
    text = "".join(map(detokenizer.add, ids)) + detokenizer.finish()
    assert text == PUBLISHED[name].decode(ids) and sum(decoded) < 10 * len(ids)


def test_what_the_library_throws_is_an_error_of_ours() -> None:
    """A panic of its Rust code is no Exception."""
    tokenizer = Tokenizer(models.WordLevel({"a": 0}, "a"))
    tokenizer.decoder = decoders.Strip("a", 1, 1)  # takes more from a word of one letter than there is
    with pytest.raises(EngineError, match="expected tokens that the tokenizer can decode, found: slice"):
        Detokenizer(tokenizer).add(0)


def test_no_unicode_text_is_refused(tiny: Path) -> None:
    tokens = InstructionTokens((tiny / "tokenizer.json").read_bytes(), SPEC, SEQUENCE)
    for text in ("red \udcff", "\ud83d\ude00", "red\0"):
        with pytest.raises(InstructionError, match=r"in Unicode text, found (half of a surrogate|a NUL)"):
            tokens.encode(text)


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_all_tokens_that_are_one_word_are_found(name: str) -> None:
    tokenizer = PUBLISHED[name]
    tokens = InstructionTokens(tokenizer.to_str().encode(), SPEC, SEQUENCE)
    space = "Ġ" if name == "byte_level" else "▁"
    assert {tokenizer.id_to_token(token) for token in tokens.spelling("red")} == {"red", f"{space}red"}
    assert {tokenizer.id_to_token(token) for token in tokens.spelling("user")} == {"USER", f"{space}USER"}
    assert tokens.spelling("yes") == ()
