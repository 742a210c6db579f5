"""A generating family with the text around its pictures: template, tokenizer, end of an answer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from saccade.export.families.deployment import Deployment
from saccade.export.families.generating import GeneratingModel
from saccade.export.families.prompt_frame import IMAGE
from saccade.export.families.registry import generating_family
from saccade.export.loading.chat_template import render_question, special_tokens
from saccade.export.loading.json_fields import read_object
from saccade.export.loading.shards import StoredWeights
from saccade.export.loading.weights import load_weights
from saccade.proto.errors import CheckpointError, ExportError
from saccade.proto.picture_fit import PictureFit
from saccade.proto.video_spec import VideoSpec

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
        after: Text of the token that the template follows; empty where tokens are the same without it.
        end_ids: Tokens that end an answer.
        pad_id: Fills a question on its right.
        image_size: Height and width of the pictures that the graph is laid out for, pixels.
        picture_fit: How pictures become what it takes.
        video: Which frames of a video are its pictures; None = still pictures.
    """

    name: str
    family: str
    model: GeneratingModel
    deployment: Deployment
    template: str
    after: str
    end_ids: tuple[int, ...]
    pad_id: int
    image_size: tuple[int, int]
    picture_fit: PictureFit
    video: VideoSpec | None = None

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the pictures of a question, or of all frames of its videos, in order."""
        word, count = (
            "frame" if self.video else "image",
            self.deployment.views * max(self.deployment.frames, 1),
        )
        return tuple(f"{word}{number}" for number in range(count))

    @property
    def images_shape(self) -> tuple[int, int, int]:
        """How many pictures the graph takes, tiles counted, and their height and width."""
        each, height, width = self.picture_fit.arrays(self.image_size)
        return each * len(self.views), height, width

    def example(self, words: int = 3, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """Return random pictures, a question of ``words`` random tokens, and its mask: what a prompt graph takes."""
        generator = torch.Generator().manual_seed(seed)
        shape = (1, *self.images_shape, 3)
        images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        ids = torch.full((1, self.deployment.max_text_tokens), self.pad_id)
        ids[0, :words] = torch.randint(0, self.model.decoder.config.vocab_size, (words,), generator=generator)
        return images, ids, self.model.sequence_inputs(torch.tensor([words])).mask


def read_prompted(folder: Path, deployment: Deployment, prompt: str | None = None) -> Prompted:
    """Read a checkpoint and what its prompt needs.

    Args:
        folder: Of the checkpoint.
        deployment: How it will be used; the prompt's tokens are filled in here.
        prompt: Text with ``<image>`` for each picture or video and ``{instruction}`` once; None = the checkpoint's chat
            template, or else the family's.

    Raises:
        CheckpointError: A file is missing or wrong, or the prompt does not fit.
        ExportError: The deployment asks for what the family cannot do.
    """
    if not folder.is_dir():
        raise CheckpointError(f"expected a checkpoint folder, found none at {folder}.")
    if deployment.views < 1 or deployment.frames < 0 or deployment.frames_per_second <= 0:
        raise CheckpointError(
            f"expected at least one picture, and time between frames, found views = {deployment.views}, frames = "
            f"{deployment.frames}, frames_per_second = {deployment.frames_per_second}."
        )
    family = generating_family(folder)
    if deployment.frames and not hasattr(family, "video_spec"):
        raise ExportError(
            f"expected frames = 0, found {deployment.frames}: {family.MODEL_TYPE} answers about still pictures here."
        )
    tokenizer = _tokenizer(folder)
    own = _chat_prompt(folder, deployment) if getattr(family, "HAS_CHAT_TEMPLATE", True) else None
    found = prompt or own or family.prompt(deployment.views)
    for placeholder in family.PLACEHOLDERS:
        found = found.replace(placeholder, IMAGE)
    before, between, template = _parts(found, deployment.views)
    framed = _framed(tokenizer, before, between, special_tokens(folder)["bos_token"])
    deployment = replace(deployment, before=framed[0], between=framed[1])
    config = family.read_config(folder, deployment)
    model: GeneratingModel = family.build(config)
    load_weights(model, StoredWeights(folder), family.key_rules(config), mapped=True)
    ends, pad = _special_ids(folder, model.decoder.config.vocab_size)
    return Prompted(
        folder.resolve().name,
        family.MODEL_TYPE,
        model.eval().requires_grad_(False),
        deployment,
        template,
        _after(tokenizer, template),
        ends,
        pad,
        family.picture_size(config),
        family.picture_fit(config),
        family.video_spec(config) if deployment.frames else None,
    )


def _chat_prompt(folder: Path, deployment: Deployment) -> str | None:
    """Return the checkpoint's own prompt, if it has a chat template."""
    kind = "video" if deployment.frames else "image"
    return render_question(folder, deployment.views, kind, INSTRUCTION)


def _framed(
    tokenizer: Tokenizer, before: str, between: str, begin: str
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the tokens before the first picture and between two, as they come in one prompt.

    Args:
        tokenizer: Of the checkpoint.
        before: Text before the first picture.
        between: Text between two.
        begin: Text of the token that begins a sequence; where the prompt has it, the tokenizer adds no other.
    """
    adds = not (begin and before.startswith(begin))
    picture = tokenizer.token_to_id(IMAGE)
    if picture is None:
        return (
            tuple(tokenizer.encode(before, add_special_tokens=adds).ids),
            tuple(tokenizer.encode(between, add_special_tokens=False).ids),
        )
    ids = tokenizer.encode(before + IMAGE + between + IMAGE, add_special_tokens=adds).ids
    first = ids.index(picture)
    second = ids.index(picture, first + 1)
    return tuple(ids[:first]), tuple(ids[first + 1 : second])


def _after(tokenizer: Tokenizer, template: str) -> str:
    """Return the picture's own token where text behind it is split otherwise than text alone."""
    text = template.replace(INSTRUCTION, "what")
    alone, behind = (tokenizer.encode(start + text, add_special_tokens=False).ids for start in ("", IMAGE))
    is_token = tokenizer.token_to_id(IMAGE) is not None
    return IMAGE if is_token and behind[1:] != alone else ""


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
