"""How an instruction becomes the text of a prompt."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from saccade.proto.errors import InstructionError, ManifestError
from saccade.proto.instruction_spec import InstructionSpec, TextStep, check_unicode
from saccade.proto.strict_json import dump_json, from_json


def spec(template: str, *steps: TextStep, state_bins: int = 0) -> InstructionSpec:
    return InstructionSpec("tokenizer.json", template, 9, 0, steps=steps, state_bins=state_bins)


def test_steps_run_in_order_on_the_instruction_alone() -> None:
    cleaned = spec("DO_IT: {instruction}\n", TextStep.SPACES_FOR_UNDERSCORES, TextStep.ONE_LINE)
    assert cleaned.prompt("  Pick_up the\nred block ") == "DO_IT: Pick up the red block\n"
    assert spec("{instruction}", TextStep.LOWER_CASE).prompt(" Pick UP") == "pick up"


def test_the_state_stands_in_the_template_and_not_in_the_instruction() -> None:
    told = spec("Task: {instruction}, State: {state};\nAction: ", state_bins=256)
    assert told.prompt("go to {state}", "0 128") == "Task: go to {state}, State: 0 128;\nAction: "
    assert spec("{instruction} {state}").prompt("go", "0") == "go {state}"


@pytest.mark.parametrize(
    ("template", "state_bins", "message"),
    [
        ("go", 0, r"expected '{instruction}' exactly once, found 'go'"),
        ("{instruction}{instruction}", 0, "exactly once"),
        ("{instruction}", 256, r"expected '{state}' exactly once"),
        ("{instruction}", -1, r"expected '{state}' exactly once|state_bins and token ids >= 0"),
    ],
)
def test_what_does_not_fit_is_refused(template: str, state_bins: int, message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        spec(template, state_bins=state_bins)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("the \udcff", r"half of a surrogate pair \('\\udcff'\) as character 4"),
        ("\ud83d\ude00", r"half of a surrogate pair \('\\ud83d'\) as character 0"),
        ("go\0", "a NUL as character 2"),
    ],
)
def test_what_is_no_unicode_text_is_refused(text: str, message: str) -> None:
    with pytest.raises(InstructionError, match=f"in Unicode text, found {message}"):
        spec("{instruction}").prompt(text)
    with pytest.raises(ManifestError, match=f"template: expected Unicode text, found {message}"):
        spec(f"{text}{{instruction}}")


@pytest.mark.parametrize("given", [b"push", None, 5])
def test_what_is_no_text_is_refused(given: Any) -> None:
    with pytest.raises(InstructionError, match=f"in text, found {type(given).__name__}"):
        check_unicode(given)


def test_an_instruction_keeps_its_place_between_the_parts_of_the_template() -> None:
    told = spec("Task: {instruction}, State: {state};", TextStep.LOWER_CASE, state_bins=256)
    assert told.parts(" Go ", "0 128") == ("Task: ", "go", ", State: 0 128;")


def test_the_end_of_the_table_is_written_where_there_is_one() -> None:
    plain, bounded = spec("{instruction}"), replace(spec("{instruction}"), embedding_rows=7)
    assert "embedding_rows" not in dump_json(plain)
    for each in (plain, bounded):
        assert from_json(InstructionSpec, json.loads(dump_json(each))) == each
    with pytest.raises(ManifestError, match="embedding_rows and token ids >= 0, found 9, 0, 0, -1"):
        replace(plain, embedding_rows=-1)


def test_a_token_past_the_table_is_named() -> None:
    words = {6: "cube", 7: "<image>"}
    bounded = replace(spec("{instruction}"), embedding_rows=7)
    bounded.check_ids([6, 0], words.get, "cube")
    spec("{instruction}").check_ids([7], words.get, "<image>")
    with pytest.raises(InstructionError, match=r"ids below 7\), found '<image>', token 7, in 'cube <image>'"):
        bounded.check_ids([6, 7], words.get, "cube <image>")
