"""What our model of a family that answers computes on its way from pictures and a question to the first tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from saccade.export.families.generating import generate
from saccade.export.families.prompts import Prompted
from saccade.proto.errors import ExportError
from saccade.proto.fitted_picture import fit_picture
from saccade.proto.manifest import ViewSpec
from saccade.proto.prompt_tokens import PromptTokenizer

PICTURE = -1
"""In place of a token id: what a picture gives."""
_AXES = 5
Arrays = dict[str, NDArray[Any]]


def read_questions(path: Path) -> tuple[NDArray[np.uint8], list[str]]:
    """Read recorded pictures and questions.

    Args:
        path: An ``.npz`` with ``images`` uint8 ``(frames, pictures, height, width, 3)`` RGB, and ``instruction`` text
            ``(frames,)``, the questions.

    Raises:
        ExportError: The file is no such recording.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            images, questions = stored["images"], [str(text) for text in stored["instruction"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, BadZipFile) as error:
        raise ExportError(
            f"{path.name}: expected an .npz with the arrays images and instruction, found: {error}."
        ) from error
    shape = images.shape
    if images.dtype != np.uint8 or images.ndim != _AXES or shape[0] != len(questions) or not images.size:
        raise ExportError(
            f"{path.name}: images: expected uint8 ({len(questions)}, pictures, height, width, 3), found "
            f"{images.dtype} {list(shape)}."
        )
    return images, questions


def fitted(prompted: Prompted, pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return what the graph takes, uint8 ``(1, tiles, height, width, 3)``.

    Args:
        prompted: The model, and how pictures fit it.
        pictures: Pictures of one question, uint8 ``(pictures, height, width, 3)``.

    Raises:
        ImageError: A picture cannot be fitted.
    """
    views = [ViewSpec(name, *prompted.image_size) for name in prompted.views]
    pairs = zip(pictures, views, strict=True)
    return np.concatenate([fit_picture(picture, view, prompted.picture_fit) for picture, view in pairs])[None]


def question_ids(prompted: Prompted, question: str, more: int) -> list[int]:
    """Return the tokens that follow the last picture.

    Args:
        prompted: The model, and how it is asked.
        question: Text of the question.
        more: Tokens that an answer takes in the same room.

    Raises:
        ExportError: The question has no room.
        InstructionError: The question is no text, or has a token that the model does not have.
    """
    ids = PromptTokenizer(Tokenizer.from_file(str(prompted.tokenizer)), prompted.instruction).ids(question)
    room = prompted.deployment.max_text_tokens - more
    if len(ids) > room:
        raise ExportError(f"expected a question of at most {room} tokens, found {len(ids)}: {question!r}.")
    return ids


def answering_stages(
    prompted: Prompted, images: NDArray[np.uint8], questions: Sequence[str], new_tokens: int
) -> Arrays:
    """Ask our model every question with all its visual tokens.

    Args:
        prompted: The model, and how it is asked.
        images: Pictures, uint8 ``(frames, pictures, height, width, 3)``.
        questions: One for each frame.
        new_tokens: Tokens of each answer.

    Returns:
        What each stage gave, as ``FRAME/STAGE``.

    Raises:
        ExportError: A question has no room.
        InputError: A question or a picture does not fit the model.
    """
    found: Arrays = {}
    with torch.inference_mode():
        for frame, question in enumerate(questions):
            ids = question_ids(prompted, question, new_tokens)
            arrays = torch.from_numpy(fitted(prompted, images[frame]))
            stages = _stages(prompted, arrays, ids, new_tokens)
            found |= {f"{frame}/{name}": value for name, value in stages.items()}
    return found


def _stages(prompted: Prompted, images: Tensor, ids: list[int], new_tokens: int) -> Arrays:
    model = prompted.model
    visual, run = model.look(images)
    padded = torch.full((1, prompted.deployment.max_text_tokens), prompted.instruction.pad_id)
    padded[0, : len(ids)] = torch.tensor(ids)
    lengths = torch.tensor([len(ids)])
    inputs, embedded = model.sequence_inputs(lengths), model.embed(visual, padded)
    standing = inputs.order[inputs.mask].argsort()
    entering = embedded[inputs.mask][standing]
    states = run(embedded, inputs)[inputs.mask][standing]
    prompt = torch.tensor([*(max(item, PICTURE) for item in model.prompt_layout.items), *ids])
    return {
        "prompt tokens": prompt.numpy(),
        **{name: value.numpy() for name, value in model.on_the_way(images[0]).items()},
        "projected tokens": entering[prompt == PICTURE].numpy(),
        "decoder input": entering.numpy(),
        "decoder states": states.numpy(),
        "logits": model.logits(states[-1]).numpy(),
        "next tokens": generate(model, visual, padded, lengths, new_tokens, run=run)[0].numpy(),
    }
