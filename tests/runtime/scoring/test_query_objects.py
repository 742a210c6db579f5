"""Objects of an instruction: what models answer is read whatever it is, and never evaluated."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saccade.runtime.scoring import query_objects
from saccade.runtime.scoring.query_objects import (
    LONGEST_NAME,
    MOST_OBJECTS,
    MOST_WORDS,
    decouple,
    list_objects_question,
    needs_objects_question,
    parse_objects,
    picture_question,
    says_yes,
    visible_objects_question,
)

NAMES = st.lists(
    st.sampled_from(["red block", "blue bowl", "moka pot", "shelf", "tomato sauce", "Cup", "10 mm bolt"]),
    min_size=1,
    max_size=6,
    unique=True,
)

RENDERINGS: list[Callable[[list[str]], str]] = [
    json.dumps,
    repr,
    lambda names: (
        f"Sure! Here it is:\n```json\n{json.dumps({'objects': names}, indent=2)}\n```\nAnything else?"
    ),
    lambda names: "[" + ", ".join(names) + "]",
    ", ".join,
    lambda names: "Objects: " + ", ".join(f"the {name}" for name in names) + ".",
    lambda names: "The objects are " + " and ".join(f"the {name}" for name in names) + ".",
    lambda names: "\n".join(f"- {name}" for name in names),
    lambda names: "Here is my list:\n\n" + "\n".join(f"{i}. **{name}**" for i, name in enumerate(names, 1)),
    lambda names: "\n".join(f"  * a {name} (on the table)" for name in names),
    lambda names: "\n".join(f"{i}) {name}: something to see" for i, name in enumerate(names, 1)),
    "\r\n".join,
    lambda names: "[]\n" + json.dumps(names),
]


@pytest.mark.parametrize("render", RENDERINGS)
@given(names=NAMES)
def test_a_list_is_read_in_whatever_form_it_comes(
    render: Callable[[list[str]], str], names: list[str]
) -> None:
    assert parse_objects(render(names)) == tuple(names)


@given(st.one_of(st.text(max_size=300), st.text(alphabet="[]\"'`,;:.-*1 \n\tabAND&()", max_size=80)))
def test_any_answer_gives_short_distinct_names(answer: str) -> None:
    names = parse_objects(answer)
    assert len(names) <= MOST_OBJECTS
    assert len({name.casefold() for name in names}) == len(names)
    for name in names:
        assert name == " ".join(name.split())
        assert 0 < len(name) <= LONGEST_NAME and len(name.split()) <= MOST_WORDS
        assert name.isprintable() and any(character.isalpha() for character in name)
        assert all(word in answer for word in name.split())
    assert says_yes(answer) in (True, False, None)


@pytest.mark.parametrize(
    "answer",
    [
        "", "[]", "None", "none.", "N/A", "['none']", "No objects", "- nothing", "{}", "...", "\x00\x00",
        "I see [1] in it", "12, 13", "The robot should first think about what it was told and then go on with that",
    ],
)  # fmt: skip
def test_no_object_is_no_object(answer: str) -> None:
    assert parse_objects(answer) == ()


def test_repetitions_sentences_and_floods_are_cut() -> None:
    assert parse_objects("[cup, Cup, the cup, CUP]") == ("cup",)
    assert parse_objects("cup\nI am sure that there is nothing else to be seen here") == ("cup",)
    assert len(parse_objects(", ".join(f"thing {i}" for i in range(1000)))) == MOST_OBJECTS
    assert parse_objects("x" * 100_000) == ()
    assert parse_objects('["yellow and white mug", "robot\'s arm"]') == (
        "yellow and white mug",
        "robot's arm",
    )


def test_code_in_an_answer_stays_text() -> None:
    marker = Path("surely_not_created_by_parsing")
    for answer in (
        f"open({str(marker)!r}, 'w')",
        f"['a', open({str(marker)!r}, 'w')]",
        "[[" * 5000,
        "__import__('os')",
    ):
        parse_objects(answer)
    assert not marker.exists()
    names = {
        node.id
        for node in ast.walk(ast.parse(Path(query_objects.__file__).read_text()))
        if isinstance(node, ast.Name)
    }
    assert not names & {"eval", "exec", "compile", "literal_eval"}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Yes.", True), ("**NO**", False), ("no, because yes is wrong", False), ("I think: true", True),
        ("That's false", False), ("Know it not", None), ("", None), ("yesterday", None), ("x" * 9000 + " yes", None),
    ],
)  # fmt: skip
def test_yes_and_no(answer: str, expected: bool | None) -> None:
    assert says_yes(answer) is expected


class Model:
    """Answers from a script and remembers what it was asked."""

    def __init__(self, *answers: str) -> None:
        self.answers, self.asked = list(answers), []

    def __call__(self, question: str) -> str:
        self.asked.append(question)
        return self.answers[len(self.asked) - 1]


TASK = "push the red block\nto the zone"


def test_three_questions_lead_to_the_visible_objects() -> None:
    model = Model("yes", '["red block", "zone", "courage"]', "- the red block\n- zone")
    assert decouple(TASK, model) == ("red block", "zone")
    assert model.asked == [
        needs_objects_question(TASK),
        list_objects_question(TASK),
        visible_objects_question(TASK, ("red block", "zone", "courage")),
    ]
    assert '"courage"' in model.asked[2]


@pytest.mark.parametrize(
    ("answers", "asked"),
    [
        (("No.",), 1),
        (("yes", "[]"), 2),
        (("hm", "none"), 2),
        (("yes", "[time]", "[]"), 3),
        (("yes", "[time]", ""), 3),
    ],
)
def test_an_instruction_may_need_no_object(answers: tuple[str, ...], asked: int) -> None:
    model = Model(*answers)
    assert decouple(TASK, model) == ()
    assert len(model.asked) == asked


@given(instruction=st.text(max_size=80), answers=st.lists(st.text(max_size=80), min_size=3, max_size=3))
def test_decoupling_survives_any_model(instruction: str, answers: list[str]) -> None:
    assert len(decouple(instruction, Model(*answers))) <= MOST_OBJECTS


@given(st.text(max_size=80))
def test_an_instruction_cannot_leave_its_quotes(instruction: str) -> None:
    first = needs_objects_question(instruction).split("\n")[0]
    assert first.count('"') == 2 and first.endswith('"')


def test_a_picture_is_asked_about_the_objects_or_about_the_task() -> None:
    assert '"red block", "zone"' in picture_question(TASK, ("red block", "zone"))
    assert TASK.split("\n", maxsplit=1)[0] not in picture_question(TASK, ("red block",))
    assert '"push the red block to the zone"' in picture_question(TASK, ())
