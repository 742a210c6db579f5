from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from saccade.proto.errors import BundleError, InstructionError
from saccade.proto.instruction_spec import InstructionSpec
from saccade.proto.manifest import SegmentSpec
from saccade.runtime.tokens import InstructionTokens

SEQUENCE = (SegmentSpec("bos", 1), SegmentSpec("visual", 2), SegmentSpec("text", 4), SegmentSpec("action", 2))
SPEC = InstructionSpec("tokenizer.json", "the {instruction}", 4, 0)


def test_padding_is_masked_and_positions_run_over_the_valid(tiny: Path) -> None:
    encoded = InstructionTokens(tiny / "tokenizer.json", SPEC, SEQUENCE).encode("Red cube")
    assert encoded.token_ids.tolist() == [[3, 4, 6, 0]]
    assert encoded.attention_mask.tolist() == [[True] * 6 + [False] + [True] * 2]
    assert encoded.position_ids.tolist() == [[0, 1, 2, 3, 4, 5, 0, 6, 7]]
    assert (encoded.token_ids.dtype, encoded.position_ids.dtype) == (np.int64, np.int64)


def test_an_instruction_is_encoded_once_and_the_oldest_forgotten(tiny: Path) -> None:
    tokens = InstructionTokens(tiny / "tokenizer.json", SPEC, SEQUENCE, capacity=2)
    red, blue = tokens.encode("red"), tokens.encode("blue")
    assert tokens.encode(" red ") is red
    tokens.encode("cube")
    assert tokens.encode("red") is red
    assert tokens.encode("blue") is not blue


def test_braces_in_an_instruction_are_text(tiny: Path) -> None:
    tokens = InstructionTokens(
        tiny / "tokenizer.json",
        InstructionSpec("t", "{instruction}", 9, 0),
        (SEQUENCE[0], SegmentSpec("text", 9)),
    )
    assert tokens.encode("{instruction} {0}").token_ids.any()


def test_the_template_counts_too(tiny: Path) -> None:
    tokens = InstructionTokens(tiny / "tokenizer.json", SPEC, SEQUENCE)
    with pytest.raises(InstructionError, match="1 to 4 tokens, its template included, found 5"):
        tokens.encode("push the red cube")


def test_a_token_that_the_model_has_no_row_for_is_named(tiny: Path) -> None:
    few = InstructionTokens(tiny / "tokenizer.json", replace(SPEC, embedding_rows=6), SEQUENCE)
    assert few.encode("red").token_ids.tolist() == [[3, 4, 0, 0]]
    for state in ("", "7"):
        with pytest.raises(
            InstructionError, match=r"ids below 6\), found 'cube', token 6, in 'the red cube'; leave it out"
        ):
            few.encode("red cube", state)
    every = InstructionTokens(tiny / "tokenizer.json", replace(SPEC, embedding_rows=7), SEQUENCE)
    assert every.encode("red cube").count == 3


def test_a_file_that_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(BundleError, match=r"tokenizer\.json: expected a tokenizer file"):
        InstructionTokens(tmp_path / "tokenizer.json", SPEC, SEQUENCE)
