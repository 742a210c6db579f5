"""Which objects an instruction is about, asked of a language model in three questions, and what is asked of pictures.

QuoTA scores a view by whether the objects of the task are visible in it. Its *query decoupling* asks a language
model (a) whether the task needs particular objects, (b) which, (c) which of those are physical and visible. Without
an object a picture is asked about the instruction as a whole.

Answers are free text. They are read, never evaluated: whatever a model says, the result is a few short names.

Source:
    QuoTA (2503.08689); MAC-AutoML/QuoTA at ec194d7. Deviations: it asks all three in one prompt with examples and hands
    the answer to ``eval``; here the model is asked thrice. Of a picture it asks for the letter of an option ("A. yes,
    B. no"); here for yes or no. The wording is our own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

MOST_OBJECTS, LONGEST_NAME, MOST_WORDS, LONGEST_ANSWER = 16, 60, 6, 4000
"""Limits: objects in a list, characters of a name, words of a name, characters that are read of an answer."""

_LEADING = frozenset(("a", "an", "the", "some", "any", "this", "that", "these", "those", "its", "and", "or"))
_EMPTY = frozenset(
    ("none", "nothing", "no", "yes", "n/a", "na", "null", "nil", "empty", "no objects", "no object")
)
_SENTENCE = frozenset(
    (
        "i",
        "you",
        "we",
        "it",
        "that",
        "there",
        "is",
        "are",
        "was",
        "be",
        "to",
        "not",
        "should",
        "then",
        "here",
        "sorry",
    )
)
_BULLET = re.compile(r"^\s*(?:[-*+•–]|\(?\d{1,3}[.):])\s+")
_BRACKETS = re.compile(r"\[([^\[\]]*)\]")
_QUOTED = re.compile(r"\"([^\"]*)\"|'([^']*)'")
_LEAD = re.compile(r"^.*?\b(?:are|is|includes?|including|contains?)\b[:\s]", re.IGNORECASE)
_EXPLANATION = re.compile(r"\s*(?:\(|:|\s[-–—]\s).*$")
_SEPARATORS = re.compile(r"[,;\n|]|\s+(?:and|or|&)\s+", re.IGNORECASE)
_JUNK = " \t\r\n\"'`*_.!?()[]{}<>“”‘’"


def needs_objects_question(instruction: str) -> str:
    """Return the first question: does the task need particular objects?"""
    return (
        f"A robot was told: {_quoted(instruction)}\n"
        "To do this, must it find particular things in its camera images? Answer with one word, yes or no."
    )


def list_objects_question(instruction: str) -> str:
    """Return the second question: which objects?"""
    return (
        f"A robot was told: {_quoted(instruction)}\n"
        "Name every thing that this involves, with its colour or material if that is said. Answer with a list in "
        'square brackets and nothing else, for example ["red cup", "shelf"]; write [] if there is none.'
    )


def visible_objects_question(instruction: str, objects: Sequence[str]) -> str:
    """Return the third question: which of them are physical, and visible?"""
    named = ", ".join(_quoted(name) for name in objects)
    return (
        f"A robot was told: {_quoted(instruction)}\n"
        f"These things were named: [{named}]\n"
        "Keep those that are physical and that a camera could see; leave out actions, directions, places without a "
        "shape, and people's wishes. Answer with a list in square brackets and nothing else; write [] if none is left."
    )


def decouple(instruction: str, ask: Callable[[str], str]) -> tuple[str, ...]:
    """Return the objects that an instruction is about, none if it needs no particular ones.

    Args:
        instruction: What the robot was told.
        ask: Puts a question to a language model and returns its answer. Called at most three times.
    """
    if says_yes(ask(needs_objects_question(instruction))) is False:
        return ()
    named = parse_objects(ask(list_objects_question(instruction)))
    return parse_objects(ask(visible_objects_question(instruction, named))) if named else ()


def picture_question(instruction: str, objects: Sequence[str]) -> str:
    """Return what is asked of each picture: is any of the objects in it, or, without one, what the task needs?"""
    if objects:
        asked = f"Does the picture show any of these: {', '.join(map(_quoted, objects))}?"
    else:
        asked = f"A robot was told: {_quoted(instruction)}\nDoes the picture show what it needs to do this?"
    return f"{asked} Answer with one word, yes or no."


def says_yes(answer: str) -> bool | None:
    """Return whether a free-text answer says yes or no; None if it says neither. The first such word counts."""
    found = re.search(r"\b(yes|true|no|false)\b", answer[:LONGEST_ANSWER], re.IGNORECASE)
    return None if found is None else found[1].lower() in ("yes", "true")


def parse_objects(answer: str) -> tuple[str, ...]:
    """Read a list of objects from a free-text answer.

    It takes the first list in square brackets that names anything; else the lines that begin with a bullet or a number;
    else every line, behind what introduces it. Articles, quotes and explanations are dropped, as are repetitions,
    sentences, and words that mean "none".

    Returns:
        At most ``MOST_OBJECTS`` distinct names, in the order found; empty if there are none.
    """
    text = "".join(
        character if character.isprintable() else "\n" for character in answer[:LONGEST_ANSWER]
    ).replace("```", "\n")
    for body in _BRACKETS.findall(text):
        quoted = [double or single for double, single in _QUOTED.findall(body)]
        if objects := _distinct(quoted or _split(body)):
            return objects
    lines = text.split("\n")
    if bullets := [_BULLET.sub("", line) for line in lines if _BULLET.match(line)]:
        return _distinct(part for line in bullets for part in _split(_EXPLANATION.sub("", line)))
    return _distinct(part for line in lines for part in _split(_without_lead(line)))


def _quoted(text: str) -> str:
    """Put text between quotes, on one line, without quotes of its own."""
    return '"' + " ".join(text.replace('"', "'").split()) + '"'


def _without_lead(line: str) -> str:
    """Drop what introduces a list: ``Objects: ...``, ``The objects are ...``."""
    return _LEAD.sub("", line.rsplit(":", 1)[-1])


def _split(text: str) -> list[str]:
    return _SEPARATORS.split(text)


def _distinct(parts: Iterable[str]) -> tuple[str, ...]:
    """Clean names and keep each that is one, once."""
    found: dict[str, str] = {}
    for part in parts:
        name = _name(part)
        if name:
            found.setdefault(name.casefold(), name)
    return tuple(found.values())[:MOST_OBJECTS]


def _name(part: str) -> str:
    """Return one name without quotes and articles; empty if it is none."""
    words = part.strip(_JUNK).split()
    while words and words[0].casefold() in _LEADING:
        words = words[1:]
    name = " ".join(words).strip(_JUNK)
    is_name = (
        len(name) <= LONGEST_NAME
        and len(words) <= MOST_WORDS
        and name.casefold() not in _EMPTY
        and _SENTENCE.isdisjoint(name.casefold().split())
        and any(character.isalpha() for character in name)
    )
    return name if is_name else ""
