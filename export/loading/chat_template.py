"""The chat template of a checkpoint: the text around pictures and question, as the model was trained with."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.proto.errors import CheckpointError
from saccade.proto.file_errors import read_text

PLAIN = "chat_template.jinja"
_SETTINGS = "tokenizer_config.json"
IN_JSON = ("chat_template.json", "processor_config.json", _SETTINGS)
_FIELD, _DEFAULT = "chat_template", "default"
_MARKS_OF_TRAINING = re.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")
"""Tags of transformers that say which tokens a loss is taken of; they print nothing."""


def render_question(folder: CheckpointFolder, pictures: int, kind: str, question: str) -> str | None:
    """Return one user's turn as the checkpoint's template writes it, up to where the answer begins.

    Args:
        folder: The checkpoint whose template is used.
        pictures: Number of pictures or videos in the question; they come before the text.
        kind: What the pictures are: ``image`` or ``video``.
        question: Text of the question.

    Returns:
        The turn's text; None where the checkpoint has no template.

    Raises:
        CheckpointError: The template cannot be read or used.
    """
    located = _find(folder)
    if located is None:
        return None
    name, template = located
    content: list[dict[str, str]] = [{"type": kind}] * pictures
    turn = {"role": "user", "content": [*content, {"type": "text", "text": question}]}
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = _refuse
    environment.filters["tojson"] = lambda value, **_: json.dumps(value, ensure_ascii=False)
    try:
        compiled = environment.from_string(_MARKS_OF_TRAINING.sub("", template))
        return compiled.render(messages=[turn], add_generation_prompt=True, **special_tokens(folder))
    except (TemplateError, TypeError, ValueError, ArithmeticError) as error:
        found = str(error).rstrip(".")
        raise CheckpointError(
            f"{name}: expected a chat template for a question about {pictures} x {kind}, found: {found}; give --prompt."
        ) from error


def special_tokens(folder: CheckpointFolder) -> dict[str, str]:
    """Return the text of the tokens that begin and end a sequence, by the names that templates use."""
    for place in folder.places:
        if (place / _SETTINGS).is_file():
            fields = folder.read_at(place, _SETTINGS)
            return {name: _text(fields.get(name)) for name in ("bos_token", "eos_token")}
    return {"bos_token": "", "eos_token": ""}


def _find(folder: CheckpointFolder) -> tuple[str, str] | None:
    """Return the template and the file that it is in; the checkpoint's own comes before its tokenizer's."""
    return next(filter(None, (_find_at(folder, place) for place in folder.places)), None)


def _plain(path: Path) -> str:
    try:
        return read_text(path)
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path.name}: expected text in UTF-8, found: {error}.") from error


def _find_at(folder: CheckpointFolder, place: Path) -> tuple[str, str] | None:
    """Return the template in one place; the newest form of transformers comes first."""
    if (place / PLAIN).is_file():
        return PLAIN, _plain(place / PLAIN)
    for name in IN_JSON:
        if not (place / name).is_file():
            continue
        value = folder.read_at(place, name).get(_FIELD)
        if isinstance(value, list):  # several, by name
            value = {entry.get("name"): entry.get("template") for entry in value if isinstance(entry, dict)}
        if isinstance(value, dict):
            value = value.get(_DEFAULT)
        if value is not None and not isinstance(value, str):
            raise CheckpointError(f"{name}: {_FIELD}: expected text, found {type(value).__name__}.")
        if value:
            return name, value
    return None


def _text(token: Any) -> str:
    """Return a token's text: older files write an object where newer ones write the text."""
    found = token.get("content") if isinstance(token, dict) else token
    return found if isinstance(found, str) else ""


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)
