"""A generating family with the text around its pictures: template, tokenizer, end of an answer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from saccade.export.families.checkpoint import check_tokenizer
from saccade.export.families.deployment import Deployment
from saccade.export.families.embedded_tokens import within_embedding
from saccade.export.families.generating import GeneratingModel
from saccade.export.families.prompt_layout import IMAGE
from saccade.export.families.reader import AnsweringReader
from saccade.export.families.registry import answering_reader
from saccade.export.loading.chat_template import render_question, special_tokens
from saccade.export.loading.checkpoint_folder import CONFIG_NAME, TOKENIZER_NAME, CheckpointFolder
from saccade.export.loading.generation_settings import NAME as GENERATION_NAME
from saccade.export.loading.generation_settings import counts_prompt, picture_id, read_token_choice
from saccade.proto.errors import CheckpointError, ExportError
from saccade.proto.instruction_spec import INSTRUCTION, InstructionSpec
from saccade.proto.picture_fit import PictureFit
from saccade.proto.token_choice import TokenChoice
from saccade.proto.video_spec import VideoSpec


@dataclass(frozen=True)
class Prompted:
    """A model and how it is asked.

    Args:
        name: Name of the model, as its folder has it.
        family: Name of the family.
        model: Model with its weights, float32; large ones are mapped.
        deployment: What the model's graphs fix.
        tokenizer: Path of the tokenizer.
        instruction: How a question becomes the tokens that follow the last picture.
        end_ids: Tokens that end an answer.
        choice: How the checkpoint wants tokens chosen.
        image_size: Height and width of the pictures that the graph is laid out for, pixels.
        picture_fit: How pictures become what the graph takes.
        video: How frames are taken from a video to be its pictures; None = still pictures.
    """

    name: str
    family: str
    model: GeneratingModel
    deployment: Deployment
    tokenizer: Path
    instruction: InstructionSpec
    end_ids: tuple[int, ...]
    choice: TokenChoice
    image_size: tuple[int, int]
    picture_fit: PictureFit
    video: VideoSpec | None = None

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the pictures of a question, or of all frames of its videos, in order."""
        name, count = (
            "frame" if self.video else "image",
            self.deployment.views * max(self.deployment.frames, 1),
        )
        return tuple(f"{name}{number}" for number in range(count))

    @property
    def images_shape(self) -> tuple[int, int, int]:
        """Number of pictures that the graph takes, tiles counted, and their height and width, pixels."""
        each, height, width = self.picture_fit.arrays(self.image_size)
        return each * len(self.views), height, width

    def example(self, length: int = 3, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """Return random pictures, a question of ``length`` random tokens, and its mask: what a prompt graph takes."""
        generator = torch.Generator().manual_seed(seed)
        shape = (1, *self.images_shape, 3)
        images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        ids = torch.full((1, self.deployment.max_text_tokens), self.instruction.pad_id)
        ids[0, :length] = torch.randint(
            0, self.model.decoder.config.vocab_size, (length,), generator=generator
        )
        return images, ids, self.model.sequence_inputs(torch.tensor([length])).mask


def read_prompted(
    path: Path, deployment: Deployment, prompt: str | None = None, tokenizer: Path | None = None
) -> Prompted:
    """Read a checkpoint and what its prompt needs.

    Args:
        path: Folder of the checkpoint.
        deployment: How the model will be used; the prompt's tokens are filled in here.
        prompt: Text with ``<image>`` for each picture or video and ``{instruction}`` once; None = the checkpoint's chat
            template, or else the family's.
        tokenizer: A ``tokenizer.json``, or a folder with one; None = the checkpoint's own.

    Raises:
        CheckpointError: A file is missing or wrong, or the prompt does not fit.
        ExportError: The deployment asks for what the family cannot do.
        InstructionError: The prompt has a token that the model does not have.
    """
    folder = CheckpointFolder(path, tokenizer)
    if deployment.views < 1 or deployment.frames < 0 or deployment.frames_per_second <= 0:
        raise CheckpointError(
            f"expected at least one picture, and time between frames, found views = {deployment.views}, frames = "
            f"{deployment.frames}, frames_per_second = {deployment.frames_per_second}."
        )
    reader = answering_reader(folder)
    if deployment.frames and reader.video_spec is None:
        raise ExportError(
            f"expected frames = 0, found {deployment.frames}: {reader.name} answers about still pictures here."
        )
    deployment, template = with_prompt(folder, reader, deployment, prompt)
    config = reader.read_config(folder, deployment)
    model: GeneratingModel = reader.load_model(folder, config)
    ends, pad = _special_ids(folder, model.decoder.config.vocab_size)
    return Prompted(
        folder.name,
        reader.name,
        model,
        deployment,
        check_tokenizer(folder, model.decoder.config.vocab_size),
        _instruction(folder.tokenizer, model, template, deployment.max_text_tokens, pad),
        ends,
        _choice(folder, model, is_video=deployment.frames > 0),
        reader.picture_size(config),
        reader.picture_fit(config),
        None if reader.video_spec is None or not deployment.frames else reader.video_spec(config),
    )


def with_prompt(
    folder: CheckpointFolder,
    reader: AnsweringReader[Any, Any],
    deployment: Deployment,
    prompt: str | None = None,
) -> tuple[Deployment, str]:
    """Return a deployment with the prompt's tokens around the pictures, and the text that follows the last of them.

    Args:
        folder: The checkpoint.
        reader: Reader of its family.
        deployment: How the model will be used.
        prompt: Text with ``<image>`` for each picture or video and ``{instruction}`` once; None = the checkpoint's chat
            template, or else the family's.

    Raises:
        CheckpointError: A file is missing or wrong, or the prompt does not fit.
    """
    own = _chat_prompt(folder, deployment) if reader.has_chat_template else None
    found = prompt or own or reader.prompt(deployment.views)
    for placeholder in reader.placeholders:
        found = found.replace(placeholder, IMAGE)
    before, between, template = _parts(found, deployment.views)
    around = _around(folder.tokenizer, before, between, special_tokens(folder)["bos_token"])
    return replace(deployment, before=around[0], between=around[1]), template


def _instruction(
    tokenizer: Tokenizer, model: GeneratingModel, template: str, room: int, pad: int
) -> InstructionSpec:
    """Return how a question becomes tokens, once every token of the prompt around it has a row."""
    rows = model.decoder.config.vocab_size
    spec = InstructionSpec(TOKENIZER_NAME, template, room, pad, after=_after(tokenizer, template))
    fixed = [item for item in model.prompt_layout.items if item >= 0]
    prompt = tokenizer.decode(fixed, skip_special_tokens=False)
    replace(spec, embedding_rows=rows).check_ids(fixed, tokenizer.id_to_token, prompt)
    return within_embedding(spec, tokenizer, rows)


def _chat_prompt(folder: CheckpointFolder, deployment: Deployment) -> str | None:
    """Return the checkpoint's own prompt, if it has a chat template."""
    kind = "video" if deployment.frames else "image"
    return render_question(folder, deployment.views, kind, INSTRUCTION)


def _around(
    tokenizer: Tokenizer, before: str, between: str, begin: str
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the tokens before the first picture and between two, as they come in one prompt.

    Args:
        tokenizer: Tokenizer of the checkpoint.
        before: Text before the first picture.
        between: Text between two pictures.
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


def _choice(folder: CheckpointFolder, model: GeneratingModel, *, is_video: bool) -> TokenChoice:
    """Return how tokens are chosen, with the prompt's own where they count."""
    choice = read_token_choice(folder, model.decoder.config.vocab_size)
    if not counts_prompt(choice):
        return choice
    picture = picture_id(folder, is_video=is_video)
    prompt = tuple(item if item >= 0 else picture for item in model.prompt_layout.items)
    return replace(choice, prompt=prompt if choice.no_repeat_ngram else tuple(dict.fromkeys(prompt)))


def _special_ids(folder: CheckpointFolder, vocab_size: int) -> tuple[tuple[int, ...], int]:
    """Return the tokens that end an answer and the one that pads, from generation_config.json, else config.json."""
    config, name = folder.config, CONFIG_NAME
    text = config.get("text_config")
    values = {**(text if isinstance(text, dict) else {}), **config}
    if folder.has(GENERATION_NAME):
        stored = {key: value for key, value in folder.read(GENERATION_NAME).items() if value is not None}
        values, name = {**values, **stored}, GENERATION_NAME
    ends = values.get("eos_token_id")
    found = tuple(ends) if isinstance(ends, list) else (ends,)
    if not all(isinstance(token, int) and 0 <= token < vocab_size for token in found):
        raise CheckpointError(f"{name}: eos_token_id: expected token ids below {vocab_size}, found {ends!r}.")
    pad = values.get("pad_token_id")
    return found, pad if isinstance(pad, int) and 0 <= pad < vocab_size else found[0]
