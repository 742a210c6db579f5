"""A generating family with the text around its pictures: template, tokenizer, end of an answer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from saccade.export.families.deployment import Deployment
from saccade.export.families.generating import GeneratingModel
from saccade.export.families.prompt_frame import IMAGE
from saccade.export.families.registry import generating_family
from saccade.export.loading.json_fields import read_object
from saccade.export.loading.shards import StoredWeights
from saccade.export.loading.weights import load_weights
from saccade.proto.errors import CheckpointError
from saccade.proto.picture_fit import PictureFit

INSTRUCTION = "{instruction}"
_TOKENIZER, _GENERATION = "tokenizer.json", "generation_config.json"


@dataclass(frozen=True)
class Prompted:
    """A model and how it is asked.

    Args:
        name: Of the checkpoint's folder.
        family: ``model_type``.
        model: With its weights, float32; large ones are mapped.
        deployment: What its graphs fix.
        template: What follows the last picture, with ``{instruction}`` once.
        end_ids: Tokens that end an answer.
        pad_id: Fills a question on its right.
        image_size: Height and width of the pictures that the graph takes, pixels.
        picture_fit: How pictures become that.
    """

    name: str
    family: str
    model: GeneratingModel
    deployment: Deployment
    template: str
    end_ids: tuple[int, ...]
    pad_id: int
    image_size: tuple[int, int]
    picture_fit: PictureFit

    def example(self, words: int = 3, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """Return random pictures, a question of ``words`` random tokens, and its mask: what a prompt graph takes."""
        generator = torch.Generator().manual_seed(seed)
        shape = (1, self.deployment.views, *self.image_size, 3)
        images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        ids = torch.full((1, self.deployment.max_text_tokens), self.pad_id)
        ids[0, :words] = torch.randint(0, self.model.decoder.config.vocab_size, (words,), generator=generator)
        return images, ids, self.model.sequence_inputs(torch.tensor([words])).mask


def read_prompted(
    folder: Path, *, prompt: str | None, views: int, image_size: tuple[int, int] | None, max_text_tokens: int
) -> Prompted:
    """Read a checkpoint and what its prompt needs.

    Args:
        folder: Of the checkpoint.
        prompt: Text with ``<image>`` for each picture and ``{instruction}`` once; None = the family's.
        views: Pictures of one question.
        image_size: Of the pictures, pixels; None = what the tower takes.
        max_text_tokens: Room for the question.

    Raises:
        CheckpointError: A file is missing or wrong, or the prompt does not fit.
    """
    if not folder.is_dir():
        raise CheckpointError(f"expected a checkpoint folder, found none at {folder}.")
    if views < 1:
        raise CheckpointError(f"expected at least one picture, found views = {views}.")
    family = generating_family(folder)
    tokenizer = _tokenizer(folder)
    before, between, template = _parts(prompt or family.prompt(views), views)
    deployment = Deployment(
        views=views,
        image_size=image_size,
        max_text_tokens=max_text_tokens,
        before=tuple(tokenizer.encode(before).ids),
        between=tuple(tokenizer.encode(between, add_special_tokens=False).ids),
    )
    config = family.read_config(folder, deployment)
    model: GeneratingModel = family.build(config)
    load_weights(model, StoredWeights(folder), family.key_rules(config), mapped=True)
    ends, pad = _special_ids(folder, model.decoder.config.vocab_size)
    size = family.picture_size(config)
    return Prompted(
        folder.name,
        family.MODEL_TYPE,
        model.eval().requires_grad_(False),
        deployment,
        template,
        ends,
        pad,
        size,
        family.picture_fit(config),
    )


def _parts(prompt: str, views: int) -> tuple[str, str, str]:
    """Split a prompt into what precedes the first picture, what stands between two, and what follows the last."""
    pieces = prompt.split(IMAGE)
    if len(pieces) != views + 1 or pieces[-1].count(INSTRUCTION) != 1 or INSTRUCTION in "".join(pieces[:-1]):
        raise CheckpointError(
            f"expected a prompt with {IMAGE} {views} times and, after the last, {INSTRUCTION} once, found {prompt!r}."
        )
    between = set(pieces[1:-1])
    if len(between) > 1:
        raise CheckpointError(f"expected the same text between all pictures, found {sorted(between)}.")
    return pieces[0], between.pop() if between else "", pieces[-1]


def _tokenizer(folder: Path) -> Tokenizer:
    path = folder / _TOKENIZER
    if not path.is_file():
        raise CheckpointError(
            f"expected {_TOKENIZER} in {folder.name}/, found none; write it with the fast tokenizer's save_pretrained."
        )
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:
        raise CheckpointError(f"{_TOKENIZER}: expected a tokenizer file, found: {error}.") from error


def _special_ids(folder: Path, vocab_size: int) -> tuple[tuple[int, ...], int]:
    """Return the tokens that end an answer and the one that pads, from generation_config.json, else config.json."""
    name = _GENERATION if (folder / _GENERATION).is_file() else "config.json"
    values = read_object(folder, name)
    text = values.get("text_config") if isinstance(values.get("text_config"), dict) else {}
    ends = values.get("eos_token_id", (text or {}).get("eos_token_id"))
    found = tuple(ends) if isinstance(ends, list) else (ends,)
    if not all(isinstance(token, int) and 0 <= token < vocab_size for token in found):
        raise CheckpointError(f"{name}: eos_token_id: expected token ids below {vocab_size}, found {ends!r}.")
    pad = values.get("pad_token_id", (text or {}).get("pad_token_id"))
    return found, pad if isinstance(pad, int) and 0 <= pad < vocab_size else found[0]
